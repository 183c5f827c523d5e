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
from benchmarks.reliability.jobs import JobAccount, JobLoad
from benchmarks.reliability.load import Load
from benchmarks.reliability.processes import Kind, Sample
from benchmarks.reliability.questions import Question, partly_streamed, partly_uncached, quick
from benchmarks.reliability.serving import Serving, serving
from benchmarks.reliability.tables import counts, table

CLIENTS = 6
DEADLINE = 30.0  # seconds of each call
JOBS_ROUND = 10.0  # seconds
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
        jobs: what became of the jobs, by round.
    """

    minutes: float
    memory: Mapping[str, Trend]
    descriptors: Mapping[str, Trend]
    threads: Mapping[str, Trend]
    disturbances: Counter[str]
    account: Account
    jobs: Sequence[JobAccount]


async def run(minutes: float) -> Soak:
    """On a service of its own."""
    async with serving() as target:
        questions = quick(await asyncio.to_thread(ask_alone, target.address, 2))
        questions = partly_streamed(partly_uncached(questions))
        return await soak(target, questions, minutes * 60, INTERVAL)


async def soak(target: Serving, questions: Sequence[Question], seconds: float, interval: float) -> Soak:
    """Load with cancellations and nonsense, and a look at every process every `interval` seconds."""
    samples: dict[str, list[Sample]] = {name: [] for name in named(target)}
    load = Load(target.address, questions, CLIENTS, DEADLINE)
    disturbing = Disturbance(target.address, questions).running()
    end = time.monotonic() + seconds
    async with load.running(), disturbing as disturbance, asyncio.TaskGroup() as group:
        jobs = group.create_task(_jobs(target, questions, end))
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
        jobs=jobs.result(),
    )


async def _jobs(target: Serving, questions: Sequence[Question], end: float) -> list[JobAccount]:
    """Make jobs, wait for them and delete them, in rounds, until a time of time.monotonic()."""
    done = []
    while time.monotonic() < end:
        jobs = JobLoad(target.address, questions)
        async with jobs.running():
            await asyncio.sleep(min(JOBS_ROUND, end - time.monotonic()))
        done.append(await jobs.settle(time.time(), lambda: ""))  # the log grows for long: to read it would be the load
    return done


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
            "",
            f"Besides, {sum(each.accepted for each in made.jobs)} jobs: "
            f"{sum(each.right for each in made.jobs)} with the right answer; "
            f"{sum(each.failures for each in made.jobs)} broke the promise. Every second request is computed by itself "
            "(`no_cache`), and every third explanation is asked for as a stream.",
        ]
    )
