"""Mixed load for a long time: the service must not keep what it takes."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from benchmarks.reliability import processes
from benchmarks.reliability.account import Account, account
from benchmarks.reliability.disturbance import Disturbance
from benchmarks.reliability.equality import ask_alone
from benchmarks.reliability.load import Load
from benchmarks.reliability.processes import Kind, Sample
from benchmarks.reliability.questions import Question, quick
from benchmarks.reliability.serving import Serving, serving
from benchmarks.reliability.tables import counts, table

CLIENTS = 6
DEADLINE = 30.0  # seconds of each call
INTERVAL = 5.0  # seconds between two looks
WARM_UP = 1 / 3  # of the samples are left out: caches fill, allocators and Java's heap find their size

# Flat is what grows, by the fitted line, by no more than this from the end of the warm-up to the end.
MEMORY_GROWTH = 0.05  # of the median
COUNT_GROWTH = 2.0  # descriptors, threads


@dataclass(frozen=True)
class Trend:
    """How one figure of one process went after the warm-up.

    Attributes:
        median: of its samples.
        growth: by the line of least squares, from the first sample to the last.
        flat: whether that is within the limits above.
    """

    median: float
    growth: float
    flat: bool


@dataclass(frozen=True)
class Soak:
    """What came of it.

    Attributes:
        minutes: of load.
        memory: trends in bytes, by process.
        descriptors: trends by process.
        threads: trends by process.
        disturbances: how many, by kind.
        account: of the calls of the load.
    """

    minutes: float
    memory: Mapping[str, Trend]
    descriptors: Mapping[str, Trend]
    threads: Mapping[str, Trend]
    disturbances: Counter[str]
    account: Account


async def run(minutes: float) -> Soak:
    """On a service of its own."""
    async with serving() as target:
        questions = quick(await asyncio.to_thread(ask_alone, target.address, 2))
        return await soak(target, questions, minutes * 60, INTERVAL)


async def soak(target: Serving, questions: Sequence[Question], seconds: float, interval: float) -> Soak:
    """Load with cancellations and nonsense, and a look at every process every `interval` seconds."""
    samples: dict[str, list[Sample]] = {name: [] for name in named(target)}
    load = Load(target.address, questions, CLIENTS, DEADLINE)
    async with load.running(), Disturbance(target.address, questions).running() as disturbance:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(interval)
            for name, process in named(target).items():
                samples[name].append(processes.sample(process))
    warm = {name: each[int(WARM_UP * len(each)) :] for name, each in samples.items()}
    return Soak(
        minutes=seconds / 60,
        memory={name: memory_trend([each.memory for each in taken]) for name, taken in warm.items()},
        descriptors={name: count_trend([each.descriptors for each in taken]) for name, taken in warm.items()},
        threads={name: count_trend([each.threads for each in taken]) for name, taken in warm.items()},
        disturbances=disturbance.counts,
        account=account(load.calls, target.log),
    )


def named(target: Serving) -> dict[str, psutil.Process]:
    """The processes of a service, by kind and process id: one that is replaced has no samples, and fails."""
    found = {str(kind): processes.find(target.service, kind) for kind in Kind}
    return {f"{kind} {process.pid}": process for kind, each in found.items() for process in each}


def memory_trend(values: Sequence[float]) -> Trend:
    """The trend of resident bytes."""
    return _trend(values, MEMORY_GROWTH * statistics.median(values))


def count_trend(values: Sequence[float]) -> Trend:
    """The trend of a number of things."""
    return _trend(values, COUNT_GROWTH)


def _trend(values: Sequence[float], limit: float) -> Trend:
    line = statistics.linear_regression(range(len(values)), values)
    growth = line.slope * (len(values) - 1)
    return Trend(statistics.median(values), growth, growth <= limit)


def report(made: Soak) -> str:
    """The section's text."""
    mebibyte = 2**20
    rows = [
        [
            name.partition(" ")[0],
            f"{memory.median / mebibyte:.0f} MiB",
            f"{memory.growth / mebibyte:+.1f} MiB",
            f"{made.descriptors[name].median:.0f}",
            f"{made.descriptors[name].growth:+.1f}",
            f"{made.threads[name].median:.0f}",
            f"{made.threads[name].growth:+.1f}",
            "yes" if memory.flat and made.descriptors[name].flat and made.threads[name].flat else "no",
        ]
        for name, memory in made.memory.items()
    ]
    head = ["process", "memory", "growth", "descriptors", "growth", "threads", "growth", "flat"]
    disturbances = ", ".join(f"{number} {name}" for name, number in made.disturbances.most_common())
    return "\n".join(
        [
            f"{made.minutes:g} minutes of {CLIENTS} clients with mixed requests, besides {disturbances}. Median and "
            f"growth are of the last two thirds. Flat: memory grew by at most {MEMORY_GROWTH:.0%}, descriptors and "
            f"threads by at most {COUNT_GROWTH:g}, by the line of least squares.\n",
            table(head, rows),
            "",
            counts({"calls": made.account}),
        ]
    )
