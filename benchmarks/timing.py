"""Times programs against a baseline on a noisy machine: in pairs, interleaved, as ratios."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import torch
from tqdm import tqdm

Program = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Cost:
    """What a program costs, in runs of the baseline.

    Attributes:
        median: of the ratios.
        low: their 25th percentile.
        high: their 75th percentile.
        pairs: number of ratios.
    """

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Comparison:
    """Costs by name, and the median seconds of the baseline."""

    baseline_seconds: float
    costs: Mapping[str, Cost]


def compare(
    baseline: Program,
    programs: Mapping[str, Program],
    *,
    seconds: float,
    least_pairs: int,
    title: str,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """Time each program right beside the baseline, in turn, until the time is up.

    A ratio is taken from two neighbouring runs, so what slows the machine for longer slows both. Which one goes first
    alternates. On a machine that others use too, `time.process_time` as the clock (with one thread, without a GPU)
    leaves out the time in which they ran.
    """
    for program in (baseline, *programs.values()):
        program()
    ratios: dict[str, list[float]] = {name: [] for name in programs}
    baselines: list[float] = []
    end = time.monotonic() + seconds
    with tqdm(desc=title, unit="round", total=least_pairs) as progress:
        while progress.n < least_pairs or time.monotonic() < end:
            for name, program in programs.items():
                first, second = (baseline, program) if progress.n % 2 else (program, baseline)
                times = {first: _seconds(first, clock), second: _seconds(second, clock)}
                baselines.append(times[baseline])
                ratios[name].append(times[program] / times[baseline])
            progress.total = max(least_pairs, progress.n + 1)
            progress.update()
    return Comparison(statistics.median(baselines), {name: _cost(values) for name, values in ratios.items()})


def machine() -> str:
    """One line that says where and when figures were measured."""
    processor = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{_cpu()}, {_threads()}"
    return f"{processor}, torch {torch.__version__}, {date.today()}"


def _seconds(program: Program, clock: Clock) -> float:
    _synchronise()
    start = clock()
    program()
    _synchronise()
    return clock() - start


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _cost(ratios: list[float]) -> Cost:
    low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return Cost(median, low, high, len(ratios))


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
