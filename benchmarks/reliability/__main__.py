"""Measures one section of docs/reliability.md, or all but the soak, and writes the figures into it.

`python -m benchmarks.reliability [all|equality|cache|chaos|overload|shutdown|soak] [--output docs/reliability.md]`
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks.reliability import cache, chaos, equality, overload, shutdown, soak
from benchmarks.reliability.tables import fill, where


def sections(minutes: float) -> dict[str, Callable[[], Coroutine[Any, Any, str]]]:
    """What measures each section and gives its text."""

    async def measure_equality() -> str:
        return equality.report(await equality.run())

    async def measure_cache() -> str:
        return cache.report(await cache.run())

    async def measure_chaos() -> str:
        return chaos.report(await chaos.run())

    async def measure_overload() -> str:
        return overload.report(await overload.run())

    async def measure_shutdown() -> str:
        return shutdown.report(await shutdown.run())

    async def measure_soak() -> str:
        return soak.report(await soak.run(minutes))

    return {
        "equality": measure_equality,
        "cache": measure_cache,
        "chaos": measure_chaos,
        "overload": measure_overload,
        "shutdown": measure_shutdown,
        "soak": measure_soak,
    }


def main() -> None:
    """Measure and write. A section that was not measured keeps its text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("section", nargs="?", default="all", choices=["all", *sections(0)])
    parser.add_argument("--minutes", type=float, default=30.0, help="of the soak")
    parser.add_argument("--output", type=Path, help="document whose sections are filled; default: print only")
    arguments = parser.parse_args()
    known = sections(arguments.minutes)
    chosen = [name for name in known if name != "soak"] if arguments.section == "all" else [arguments.section]
    for name in chosen:
        began = time.monotonic()
        text = f"{asyncio.run(known[name]())}\n\nMeasured on {where()}"
        print(f"{text}\n\n{name}: {time.monotonic() - began:.0f} s\n", flush=True)
        if arguments.output:  # at once: what has been measured is kept if a later section fails
            fill(arguments.output, name, text)


if __name__ == "__main__":
    main()
