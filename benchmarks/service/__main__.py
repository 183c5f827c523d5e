"""Measures the whole service beside TorchServe alone and a bare gRPC server, and writes the tables.

`python -m benchmarks.service [--output docs/performance.md]`

One TorchServe runs, with one worker for each model. The service works with it, and so does a client that asks it
directly; beside them runs a bare asyncio gRPC server with the same handler in its own process. All of them are asked
for the same, of the same photographs, in turn; no answer is kept (`no_cache`). It takes about eight minutes.
"""

import argparse
import asyncio
from pathlib import Path

from benchmarks.reliability.tables import fill, where
from benchmarks.service.cases import Case, cases, entries, photographs, real_models
from benchmarks.service.load import measure
from benchmarks.service.report import report
from benchmarks.service.setting import running

SECTION = "service"


async def run(chosen: list[Case], scale: float, serving: dict[str, object]) -> str:
    """Measure and give the section's text."""
    images = photographs()
    models = {case.model for case in chosen}
    async with running(lambda folder: entries(folder, models, serving)) as setting:
        results = await measure(setting, chosen, images, scale)
    kind = "real photographs" if real_models() else "photographs of the digits: the real ones are not there"
    sizes = sorted(len(image) // 1000 for image in images)
    text = report(results, setting.batch_size)
    return f"{text}\n\n{len(images)} {kind}, {sizes[0]} to {sizes[-1]} KB. Measured on {where()}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0, help="length of every block, as a factor")
    parser.add_argument("--only", default="", help="only cases whose name has this text, as in 'digits-cnn, Grad'")
    parser.add_argument("--threads", type=int, help="threads of torch in each worker; default: torch decides")
    parser.add_argument("--batch-delay", type=int, help="milliseconds that a batch waits for another request")
    parser.add_argument("--output", type=Path, help="document whose section is filled; default: print only")
    arguments = parser.parse_args()
    given = {"threads": arguments.threads, "max_batch_delay_ms": arguments.batch_delay}
    serving = {name: value for name, value in given.items() if value is not None}
    chosen = [case for case in cases() if arguments.only in str(case)]
    if not chosen:
        parser.error("no case has this name: " + "; ".join(map(str, cases())))
    text = asyncio.run(run(chosen, arguments.scale, serving))
    print(text)
    if arguments.output:
        fill(arguments.output, SECTION, text)


if __name__ == "__main__":
    main()
