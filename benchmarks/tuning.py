"""How many workers and threads of torch a model should have on this machine.

`python -m benchmarks.tuning [--models NAME ...] [--rounds 8] [--output docs/performance.md]`

The same model is served in several ways by one service, and asked for predictions over gRPC, one way after the other.
"""

import argparse
import asyncio
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.reliability.tables import fill, table, where
from benchmarks.service.cases import DIGITS, PREDICTION, Case, entries, photographs, real_models
from benchmarks.service.load import Block, Plan, block
from benchmarks.service.setting import WORKERS, Setting, running
from benchmarks.service.ways import SERVICE
from model_store.manifest import ModelEntry

WAYS: Mapping[str, Mapping[str, object]] = {
    "1 worker, torch decides": {"threads": None},
    "1 worker, 1 thread": {"threads": 1},
    "2 workers, 1 thread each": {"workers": 2, "threads": 1},
}
PLANS = (Plan(1, 0.6, 0), Plan(4, 0.8, 0), Plan(16, 1.2, 0))


def served(model: str, way: int) -> str:
    """Name of a model that is served in one of the WAYS, by its place."""
    return f"{model}-{way}"


def variants(folder: Path, models: Sequence[str]) -> list[tuple[ModelEntry, Path]]:
    """Every model in all ways."""
    return [
        (entry.model_copy(update={"name": served(entry.name, way)}), parent)
        for way, changes in enumerate(WAYS.values())
        for entry, parent in entries(folder, models, {"fast_workers": 0, "slow_workers": 0, **changes})
    ]


async def measure(setting: Setting, model: str, rounds: int) -> list[list[object]]:
    """The rows of a model."""
    images, ask = photographs(), setting.ways.ask[SERVICE]
    found: dict[tuple[int, int], list[Block]] = {}
    for plan in PLANS:
        for number in tqdm(range(-1, rounds), desc=f"{model}, {plan.clients} clients"):
            for place in range(len(WAYS)):
                way = (number + place) % len(WAYS)
                case = Case(served(model, way), PREDICTION)
                made = await block(setting, ask, case, images, plan)
                if number >= 0:  # the first round warms up
                    found.setdefault((plan.clients, way), []).append(made)
    return [[model, clients, [*WAYS][way], *_figures(blocks)] for (clients, way), blocks in sorted(found.items())]


def _figures(blocks: Sequence[Block]) -> list[str]:
    """Latencies and processor time in milliseconds, requests a second."""
    latencies = sorted(seconds for each in blocks for seconds in each.latencies)
    cpu = statistics.median(each.cpu[WORKERS] for each in blocks)
    milliseconds = [statistics.median(latencies), latencies[int(0.99 * (len(latencies) - 1))], cpu]
    p50, p99, work = (f"{1000 * seconds:.1f}" for seconds in milliseconds)
    return [p50, p99, f"{statistics.median(each.rate for each in blocks):.1f}", work]


async def run(models: Sequence[str], rounds: int) -> str:
    """Measure, and give the section's text."""
    async with running(lambda folder: variants(folder, models)) as setting:
        rows = [row for model in models for row in await measure(setting, model, rounds)]
    head = ["model", "clients", "served by", "p50, ms", "p99, ms", "per s", "workers' processor time, ms"]
    return f"{table(head, rows)}\n\nMeasured on {where()}"


def main() -> None:
    """Run the command line."""
    known = (*real_models(), DIGITS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=known, default=[known[0], DIGITS])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--output", type=Path, help="document with a place for the section")
    arguments = parser.parse_args()
    text = asyncio.run(run(list(dict.fromkeys(arguments.models)), arguments.rounds))
    print(text)
    if arguments.output:
        fill(arguments.output, "tuning", text)


if __name__ == "__main__":
    main()
