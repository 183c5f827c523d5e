"""Clients that ask without a pause, one way after the other, in rounds: what slows the machine slows all ways."""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from benchmarks.service.cases import PICTURES, Case
from benchmarks.service.setting import Setting
from benchmarks.service.ways import WAYS, Answer, Ask

WARM_UP = 8  # requests of each case, each way, before the first that count


@dataclass(frozen=True)
class Plan:
    """How a case is measured with some clients.

    Attributes:
        clients: that ask at the same time.
        seconds: length of a block.
        rounds: blocks of each way.
    """

    clients: int
    seconds: float
    rounds: int


# One client is asked for a ratio of medians: many short blocks. Many clients need long ones: a batch is only full
# while all of them ask.
PLANS = (Plan(1, 0.5, 7), Plan(4, 0.6, 4), Plan(16, 1.0, 4), Plan(64, 1.5, 3))
LIMIT_SECONDS = 0.7


@dataclass(frozen=True)
class Block:
    """One way, for the length of a block.

    Attributes:
        latencies: seconds of each request.
        rate: requests a second.
        cpu: seconds of processor time of a request, by process.
        stages: mean seconds of each stage, by the service's own account; empty for the other ways.
    """

    latencies: tuple[float, ...]
    rate: float
    cpu: Mapping[str, float]
    stages: Mapping[str, float]


@dataclass
class Measured:
    """What was measured of one case.

    Attributes:
        blocks: in the order of the rounds, by the number of clients and the way.
        limits: requests a second of the handler alone, by the batch size.
    """

    blocks: dict[tuple[int, str], list[Block]] = field(default_factory=dict)
    limits: dict[int, list[float]] = field(default_factory=dict)


async def measure(
    setting: Setting, cases: Sequence[Case], images: Sequence[bytes], scale: float
) -> dict[Case, Measured]:
    """Measure every case; `scale` makes every block longer or shorter."""
    found: dict[Case, Measured] = {}
    with tqdm(total=len(cases), unit="case") as progress:
        for case in cases:
            progress.set_description(str(case))
            await _warm_up(setting, case, images)
            found[case] = await _measure(setting, case, images, scale)
            progress.update()
    return found


async def _warm_up(setting: Setting, case: Case, images: Sequence[bytes]) -> None:
    """Ask each way once for each image, and then some: the answers must be the same."""
    for image in images:
        best = {(await setting.ways.ask[way](case, image)).best for way in WAYS}
        if len(best) > 1:
            raise RuntimeError(f"{case}: the ways do not agree: a benchmark of wrong answers is worth nothing")
    for way in WAYS:
        await block(setting, setting.ways.ask[way], case, images, Plan(WARM_UP, 0.2, 1))


async def _measure(setting: Setting, case: Case, images: Sequence[bytes], scale: float) -> Measured:
    measured = Measured()
    plans = [plan for plan in PLANS if plan.clients == 1 or case.work != PICTURES]
    for plan in plans:
        for number in range(plan.rounds):
            for place in range(len(WAYS)):
                way = WAYS[(number + place) % len(WAYS)]
                each = await block(setting, setting.ways.ask[way], case, images, plan, scale)
                measured.blocks.setdefault((plan.clients, way), []).append(each)
        await _limit(setting, case, images, scale, measured)
    return measured


async def _limit(setting: Setting, case: Case, images: Sequence[bytes], scale: float, measured: Measured) -> None:
    for batch in sorted({1, setting.batch_size}):
        rate = await setting.ways.limit(case, images, batch, LIMIT_SECONDS * scale)
        measured.limits.setdefault(batch, []).append(rate)


async def block(
    setting: Setting, ask: Ask, case: Case, images: Sequence[bytes], plan: Plan, scale: float = 1.0
) -> Block:
    """Ask for the length of a block. Every request that was begun counts, and the time until the last has ended."""
    turns, answers, latencies = itertools.cycle(images), list[Answer](), list[float]()
    end = time.perf_counter() + plan.seconds * scale

    async def client() -> None:
        while (began := time.perf_counter()) < end:
            answers.append(await ask(case, next(turns)))
            latencies.append(time.perf_counter() - began)

    before, began = setting.cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(plan.clients)))
    elapsed, after = time.perf_counter() - began, setting.cpu_seconds()
    count = len(answers)
    names = answers[0].stages
    return Block(
        latencies=tuple(latencies),
        rate=count / elapsed,
        cpu={name: (after[name] - before[name]) / count for name in after},
        stages={name: sum(answer.stages[name] for answer in answers) / count for name in names},
    )
