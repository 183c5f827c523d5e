"""More answers than the cache has room for: it never takes more than it may."""

import asyncio
import contextlib
import itertools
import urllib.request
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.reliability import processes
from benchmarks.reliability.account import Account, account
from benchmarks.reliability.load import Load
from benchmarks.reliability.processes import Kind
from benchmarks.reliability.questions import Question, answered_alone, images
from benchmarks.reliability.serving import Serving, serving
from benchmarks.reliability.tables import counts, table
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from service.client import Client, build_method

MODEL = "digits-cnn"
CLASSES = 10
METHODS = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "xgrad_cam")
ROOM = 1 << 20  # bytes
FACTOR = 4  # times as many bytes of answers
ROUNDS = 3
CLIENTS = 8
DEADLINE = 60.0  # seconds of each call
INTERVAL = 0.02  # seconds between two looks
_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Bound:
    """What came of it.

    Attributes:
        answers: bytes of the different answers together.
        largest: most bytes that the cache said it takes, of `looks`.
        looks: how often it was asked.
        evictions: entries that made room.
        before: resident bytes of the service before the load.
        after: the same after it.
        account: of all calls.
    """

    answers: int
    largest: float
    looks: int
    evictions: float
    before: int
    after: int
    account: Account

    @property
    def holds(self) -> bool:
        """Whether the cache stayed within its room though it had to make some."""
        return self.looks > 0 and self.largest <= ROOM and self.evictions > 0


async def run() -> Bound:
    """On a service of its own, with little room."""
    async with serving({"cache_bytes": ROOM}) as target:
        questions = await asyncio.to_thread(_questions, target.address)
        return await bound(target, questions)


async def bound(target: Serving, questions: Sequence[Question]) -> Bound:
    """Ask every question again and again, and look at the cache meanwhile."""
    service = processes.find(target.service, Kind.SERVICE)[0]
    before = processes.sample(service).memory
    load = Load(target.address, questions, CLIENTS, DEADLINE)
    async with _watching(target.service.metrics) as seen:
        await load.once(ROUNDS)
        await asyncio.sleep(2 * INTERVAL)
    return Bound(
        answers=sum(each.answer.ByteSize() for each in questions if each.answer is not None),
        largest=max(seen, default=0.0),
        looks=len(seen),
        evictions=await asyncio.to_thread(_metric, target.service.metrics, "whylight_cache_evictions_total"),
        before=before,
        after=processes.sample(service).memory,
        account=account(load.calls, target.log),
    )


def _questions(address: str) -> list[Question]:
    """Different questions about the pictures, until their answers have FACTOR times the room.

    They are of the predicted class: of an improbable one the map changes more with the batch that it is computed in.
    """
    output = api.OutputOptions(resolution=types_pb2.MAP_RESOLUTION_INPUT)
    jpegs = images()[::2]  # the same pixels as PNG share an answer
    answered: list[Question] = []
    with Client(address) as client:
        for top_k, name, image in itertools.product(range(1, CLASSES + 1), METHODS, jpegs):
            method = build_method(name, [])
            request = api.ExplainRequest(model=MODEL, image=image, method=method, output=output, top_k=top_k)
            answered += answered_alone(client, [Question(f"{MODEL} {name}", request, types_pb2.LANE_FAST)])
            if sum(each.answer.ByteSize() for each in answered if each.answer is not None) >= FACTOR * ROOM:
                return answered
    raise AssertionError("there are not enough different questions")


@contextlib.asynccontextmanager
async def _watching(url: str) -> AsyncIterator[list[float]]:
    """What the cache says it takes, again and again for the length of a block."""
    seen: list[float] = []

    async def watch() -> None:
        while True:
            seen.append(await asyncio.to_thread(_metric, url, "whylight_cache_bytes"))
            await asyncio.sleep(INTERVAL)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _metric(url: str, name: str) -> float:
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:  # noqa: S310 - the service's own address
        families = text_string_to_metric_families(answer.read().decode())
        return next(sample.value for family in families for sample in family.samples if sample.name == name)


def report(made: Bound) -> str:
    """The section's text."""
    head = ["room", "answers", "most that the cache took", "looks", "entries that made room", "service's memory before",
            "after", "bound kept"]  # fmt: skip
    row = [
        f"{ROOM / _MEBIBYTE:g} MiB",
        f"{made.answers / _MEBIBYTE:.1f} MiB",
        f"{made.largest / _MEBIBYTE:.3f} MiB",
        made.looks,
        f"{made.evictions:.0f}",
        f"{made.before / _MEBIBYTE:.0f} MiB",
        f"{made.after / _MEBIBYTE:.0f} MiB",
        "yes" if made.holds else "no",
    ]
    return "\n".join(
        [
            f"The cache lies in memory only: there is no disk to fill, and its bound is what counts. {CLIENTS} clients "
            f"ask {ROUNDS} times for different answers that together have {FACTOR} times the room.\n",
            table(head, [row]),
            "",
            counts({"calls": made.account}),
        ]
    )
