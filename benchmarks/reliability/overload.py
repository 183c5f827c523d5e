"""Ten times as many explanations as can be computed: predictions go on, and who finds no room hears it at once."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from benchmarks.reliability.account import Account, account, percentile, service_seconds
from benchmarks.reliability.calls import Call, End, make_call
from benchmarks.reliability.load import CHANNEL_OPTIONS, Load
from benchmarks.reliability.questions import Question, explanation, prediction
from benchmarks.reliability.serving import serving
from benchmarks.reliability.tables import counts, milliseconds, table
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc

FACTOR = 10
MODEL = "digits-cnn"
EXPLANATIONS = {
    "fast (Grad-CAM)": explanation(MODEL, "grad_cam"),
    "slow (Opti-CAM, 10 steps)": explanation(MODEL, "opti_cam", "steps=10"),
}
SATURATING = 8  # clients that measure what the service can do
PREDICTING = 2  # clients
CONNECTIONS = 16  # over which the overload comes
DEADLINE = 10.0  # seconds of each call
PROMISE = 0.05  # seconds for a rejection
_REJECTED = grpc.StatusCode.RESOURCE_EXHAUSTED.name


@dataclass(frozen=True)
class Overload:
    """What came of one kind of explanation.

    Attributes:
        capacity: explanations a second that the service answers.
        offered: explanations a second that it was asked for.
        lag: the 99th percentile of how late a call was sent, in seconds: the clients' own want of time.
        idle: predictions before.
        loaded: predictions meanwhile.
        explanations: the overload's calls.
        by_service: seconds of each rejection by the service's own clock, of those that were not refused unread.
        account: of all calls meanwhile.
    """

    capacity: float
    offered: float
    lag: float
    idle: tuple[Call, ...]
    loaded: tuple[Call, ...]
    explanations: tuple[Call, ...]
    by_service: tuple[float, ...]
    account: Account

    @property
    def rejections(self) -> list[float]:
        """Seconds until each rejected call knew it."""
        return [call.seconds for call in self.explanations if call.code == _REJECTED]


async def run(seconds: float = 15.0) -> dict[str, Overload]:
    """Each kind of explanation, on one service; `seconds` is the length of the overload.

    The clients get a processor of their own, as if they were elsewhere: else they wait for themselves.
    """
    every = os.sched_getaffinity(0)
    own = {min(every)}
    os.sched_setaffinity(0, every - own or every)  # what is started now inherits it
    try:
        async with serving({"cache_bytes": 0}) as target:
            os.sched_setaffinity(0, own)
            made = {}
            for name, question in EXPLANATIONS.items():
                made[name] = await overload(target.address, question, seconds, log=lambda: target.log)
            return made
    finally:
        os.sched_setaffinity(0, every)


async def overload(address: str, question: Question, seconds: float, log: Callable[[], str]) -> Overload:
    """Measure what the service can do, and ask for ten times as much."""
    predictions = Load(address, [prediction(MODEL)], PREDICTING, DEADLINE)
    async with predictions.running():
        await asyncio.sleep(seconds / 3)
    idle = tuple(predictions.calls)
    capacity = await _capacity(address, question, seconds / 3)
    predictions.calls.clear()
    async with predictions.running():
        calls, lag = await _open_loop(address, question, FACTOR * capacity, seconds)
    loaded = tuple(predictions.calls)
    text = log()
    known = service_seconds(text)
    return Overload(
        capacity=capacity,
        offered=len(calls) / seconds,
        lag=lag,
        idle=idle,
        loaded=loaded,
        explanations=tuple(calls),
        by_service=tuple(
            known[each.request_id] for each in calls if each.code == _REJECTED and each.request_id in known
        ),
        account=account([*calls, *loaded], text),
    )


async def _capacity(address: str, question: Question, seconds: float) -> float:
    """Right answers a second with enough clients to keep the workers busy all the time."""
    load = Load(address, [question], SATURATING, 6 * DEADLINE)
    began = time.monotonic()
    async with load.running():
        await asyncio.sleep(seconds)
    return sum(call.end is End.RIGHT for call in load.calls) / (time.monotonic() - began)


async def _open_loop(address: str, question: Question, rate: float, seconds: float) -> tuple[list[Call], float]:
    """Send calls at a rate whatever becomes of those before; gives them, and how late the 99th percentile was sent."""
    channels = [grpc.aio.insecure_channel(address, CHANNEL_OPTIONS) for _ in range(CONNECTIONS)]
    stubs = itertools.cycle(api_grpc.ExplanationServiceStub(channel) for channel in channels)  # type: ignore[no-untyped-call]
    calls, lags = [], []
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        lags.append(time.monotonic() - due)
        calls.append(asyncio.create_task(make_call(next(stubs), question, DEADLINE)))
    ended = await asyncio.gather(*calls)
    for channel in channels:
        await channel.close()
    return ended, percentile(lags, 99)


def report(made: dict[str, Overload]) -> str:
    """The section's text."""
    rows = []
    for name, each in made.items():
        idle, loaded = ([call.seconds for call in calls if call.end is End.RIGHT] for calls in (each.idle, each.loaded))
        rows.append(
            [
                name,
                f"{each.capacity:.1f}/s",
                f"{each.offered:.0f}/s",
                len(each.rejections),
                milliseconds(percentile(each.rejections, 50)),
                milliseconds(percentile(each.rejections, 99)),
                f"{sum(value <= PROMISE for value in each.rejections) / max(1, len(each.rejections)):.1%}",
                milliseconds(percentile(each.by_service, 99)),
                milliseconds(each.lag),
                f"{milliseconds(percentile(idle, 50))} / {milliseconds(percentile(idle, 99))}",
                f"{milliseconds(percentile(loaded, 50))} / {milliseconds(percentile(loaded, 99))}",
                f"{len(loaded)} of {len(each.loaded)}",
            ]
        )
    head = ["explanations", "capacity", "asked for", "rejected", "rejection p50", "p99", "within 50 ms",
            "p99 by the service", "clients' lag p99", "prediction p50 / p99 idle", "meanwhile", "answered"]  # fmt: skip
    return "\n".join(
        [
            f"Open loop: calls are sent at {FACTOR} times the measured capacity, whatever becomes of those before, "
            f"while {PREDICTING} clients ask for predictions of the same model. The clients have one processor, the "
            "service with its workers the others; the clients' lag says how late they were themselves.\n",
            table(head, rows),
            "",
            counts({name: each.account for name, each in made.items()}),
        ]
    )
