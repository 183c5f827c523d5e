"""The tables of what was measured."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.reliability.account import percentile
from benchmarks.reliability.tables import table
from benchmarks.service import setting
from benchmarks.service.cases import DIGITS, PICTURES, Case
from benchmarks.service.load import PLANS, Block, Measured
from benchmarks.service.ways import BARE, SERVICE, STAGES, TORCHSERVE, WAYS

Results = Mapping[Case, Measured]

TEXT = """{goals}

Each of the three ways in turn, in rounds, from one client process; the ratios are medians of the rounds.

{speed}

Share of each stage in the mean time of a request to the service, by its own account. *Queue*: waiting for room in the
service. *Hop*: from the service to the handler and back, which is TorchServe's queue, its batching and the transport.
*Decode*, *compute*, *render*: in the handler, *compute* for the whole batch. *Front*: all else, which is the client,
gRPC, the service's own work, and the other requests of the batch being decoded and drawn.

{stages}

What the handler does alone, asked in its own process over and over, with batches of one and of {batch}, and how
much of the larger one comes through the service at best.

{limits}

Milliseconds of processor time that one request takes, by process; the client is this benchmark.

{cpu}"""


def report(results: Results, batch: int) -> str:
    """All tables."""
    return TEXT.format(
        batch=batch,
        goals=_goals(results),
        speed=_speed(results),
        stages=_stages(results),
        limits=_limits(results),
        cpu=_cpu(results),
    )


def p50(block: Block) -> float:
    """The median latency of a block, in seconds."""
    return statistics.median(block.latencies)


def ratio(ours: Sequence[Block], theirs: Sequence[Block], figure: Callable[[Block], float]) -> float:
    """The median over the rounds of a figure's ratio."""
    return statistics.median(figure(a) / figure(b) for a, b in zip(ours, theirs, strict=True))


def _rows(results: Results) -> list[tuple[Case, int, dict[str, list[Block]]]]:
    found = []
    for case, measured in results.items():
        for plan in PLANS:
            if (plan.clients, SERVICE) in measured.blocks:
                found.append((case, plan.clients, {way: measured.blocks[plan.clients, way] for way in WAYS}))
    return found


def _goals(results: Results) -> str:
    """What is reached of the two goals, in words."""
    found = {case: measured for case, measured in results.items() if case.model != DIGITS} or results
    kind = "real networks" if found is not results else "default CNN"
    latencies = [ratio(each.blocks[1, SERVICE], each.blocks[1, TORCHSERVE], p50) for each in found.values()]
    shares = [_best(each) / _limit(each) for case, each in found.items() if case.work != PICTURES]
    return (
        f"On the {kind}, one client's p50 is {_range(latencies, '.2f')} times that of TorchServe alone "
        f"(goal: at most 1.15), and the throughput reaches {_range(shares, '.0%')} of what the handler does alone "
        "(goal: 90 %)."
    )


def _range(values: Sequence[float], form: str) -> str:
    """The least and the most."""
    if not values:
        return "nobody knows how many"
    return f"{min(values):{form}} to {max(values):{form}}"


def _best(measured: Measured) -> float:
    """Requests a second of the service, with as many clients as suit it best."""
    ours = (blocks for (_, way), blocks in measured.blocks.items() if way == SERVICE)
    return max(statistics.median(block.rate for block in blocks) for blocks in ours)


def _limit(measured: Measured) -> float:
    """Requests a second of the handler alone, in the batches that suit it best."""
    return max(statistics.median(found) for found in measured.limits.values())


def _speed(results: Results) -> str:
    head = ["model", "work", "clients", *(f"p50 {way}" for way in WAYS), "p50 / TorchServe", "p50 / bare"]
    head += [*(f"p99 {way}" for way in WAYS), *(f"per s {way}" for way in WAYS), "per s / TorchServe", "per s / bare"]
    rows = []
    for case, clients, blocks in _rows(results):
        everything = {way: [each for block in blocks[way] for each in block.latencies] for way in WAYS}
        p50s = [_ms(statistics.median(everything[way])) for way in WAYS]
        p99s = [_ms(percentile(everything[way], 99)) for way in WAYS]
        rates = [f"{statistics.median(block.rate for block in blocks[way]):.1f}" for way in WAYS]
        latency, speed = (
            [f"{ratio(blocks[SERVICE], blocks[other], figure):.2f}" for other in (TORCHSERVE, BARE)]
            for figure in (p50, lambda block: block.rate)
        )
        rows.append([case.model, case.work, clients, *p50s, *latency, *p99s, *rates, *speed])
    return table(head, rows)


def _stages(results: Results) -> str:
    head = ["model", "work", "clients", "mean, ms", "queue", "hop", "decode", "compute", "render", "front"]
    rows = []
    for case, clients, blocks in _rows(results):
        found = blocks[SERVICE]
        counts = [len(block.latencies) for block in found]
        whole = statistics.mean(each for block in found for each in block.latencies)
        stages = {name: statistics.fmean([block.stages[name] for block in found], counts) for name in STAGES}
        stages["render"] += stages.pop("quality")
        shares = [*stages.values(), whole - sum(stages.values())]
        rows.append([case.model, case.work, clients, _ms(whole), *(f"{share / whole:.0%}" for share in shares)])
    return table(head, rows)


def _limits(results: Results) -> str:
    head = ["model", "work", "per s, batch of 1", "per s, full batch", "per s, service at best", "share"]
    rows = []
    for case, measured in results.items():
        rates, best = [statistics.median(found) for _, found in sorted(measured.limits.items())], _best(measured)
        rows.append([case.model, case.work, *(f"{rate:.1f}" for rate in (rates[0], rates[-1], best)),
                     f"{best / _limit(measured):.0%}"])  # fmt: skip
    return table(head, rows)


def _cpu(results: Results) -> str:
    columns = {
        SERVICE: (setting.CLIENT, setting.FRONT, setting.JAVA, setting.WORKERS),
        TORCHSERVE: (setting.CLIENT, setting.JAVA, setting.WORKERS),
        BARE: (setting.CLIENT, setting.BARE),
    }
    head = ["model", "work", "clients", *(f"{way}: {name}" for way, names in columns.items() for name in names)]
    rows = []
    for case, clients, blocks in _rows(results):
        cells = [
            _ms(statistics.median(block.cpu[name] for block in blocks[way]))
            for way, names in columns.items()
            for name in names
        ]
        rows.append([case.model, case.work, clients, *cells])
    return table(head, rows)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
