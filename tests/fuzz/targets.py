"""Where fuzzed messages go, and what may come back."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import torch
from google.rpc import status_pb2

from handlers.describe import describe
from handlers.errors import ImageError
from handlers.images import decode
from handlers.loading import load_model
from handlers.settings import Limits
from handlers.worker import Worker
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.errors import STATUS_CODES
from service.listening import ENVELOPE_BYTES
from service.status_details import KEY
from tests.fuzz import requests
from tests.service.fakes import Front, front, prediction
from tests.tiny import LABELS, unpack, write_tiny

API = "/explain.v1.ExplanationService"
# INTERNAL is in the table, but it is a fault of ours by definition.
DOCUMENTED = {code.name for code in STATUS_CODES.values()} - {"INTERNAL"} | {"OK"}
WORK_STATUSES = set(worker_pb2.WorkStatus.keys()) - {"WORK_STATUS_INTERNAL", "WORK_STATUS_UNSPECIFIED"}
PATIENCE = 0.1  # seconds that a worker gets for one message
IN_FLIGHT = 8

LIMITS = Limits(max_pixels=100_000, max_image_bytes=100_000)
LONGEST = 2 * LIMITS.max_image_bytes + ENVELOPE_BYTES  # bytes of a message


@dataclass
class Findings:
    """What came back.

    Attributes:
        statuses: how often each status came, by where the message went.
        faults: seed, number and what was wrong with the answer, of each message that must not be answered so.
        slowest: seconds of the slowest message, by where it went.
    """

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    slowest: dict[str, tuple[float, int]] = field(default_factory=dict)

    def add(self, target: str, number: int, status: str, seconds: float, *, good: bool, what: str) -> None:
        """Note an answer."""
        self.statuses.setdefault(target, Counter())[status] += 1
        self.slowest[target] = max(self.slowest.get(target, (0.0, 0)), (seconds, number))
        if not good:
            self.faults.append(f"{target} {number}: {status}, {what}")


def source(seed: int, number: int) -> random.Random:
    """Of the decisions for one message: it can be made again without those before it."""
    return random.Random(f"{seed} {number}")


def tiny_worker(folder: Path) -> Worker:
    """The real worker with a tiny network."""
    return Worker(load_model(unpack(write_tiny(folder), folder), torch.device("cpu")), LIMITS)


@asynccontextmanager
async def fuzzed_front(worker: Worker) -> AsyncIterator[Front]:
    """The service's front with the catalogue of a real worker, and a fake one that answers at once."""

    def answer(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
        indices = list(request.image.class_indices)
        del request.image.class_indices[:]
        response = prediction(request)
        for index in indices:
            response.image.explanations.add().target.CopyFrom(types_pb2.ClassScore(index=index, label=LABELS[index]))
        return response

    async with front(max_image_bytes=LIMITS.max_image_bytes) as service:
        service.catalog.describe(requests.MODEL, worker_pb2.DescribeResult.FromString(_description(worker)))
        service.worker.answer = answer
        yield service


def _description(worker: Worker) -> bytes:
    return describe(worker.model).SerializeToString()


async def fuzz_front(
    service: Front, findings: Findings, seed: int, numbers: Iterator[int], tell: Callable[[], object] = lambda: None
) -> None:
    """Send messages over a real channel, a few at a time: `numbers` is shared, whoever is free takes the next."""

    async def sender() -> None:
        for number in numbers:
            sent = requests.public(source(seed, number))
            began = time.perf_counter()
            status, what = await _ask(service, sent)
            good = status in DOCUMENTED and not what
            findings.add("front", number, status, time.perf_counter() - began, good=good, what=what)
            service.worker.requests.clear()
            service.worker.asked.clear()
            tell()

    await asyncio.gather(*(sender() for _ in range(IN_FLIGHT)))


async def _ask(service: Front, sent: requests.Sent) -> tuple[str, str]:
    """The status, and what is wrong with it."""
    path = f"{API}/{sent.procedure}"
    try:
        if sent.streams:
            async for _ in service.channel.unary_stream(path)(sent.body, timeout=30):
                pass
        else:
            await service.channel.unary_unary(path)(sent.body, timeout=30)
    except grpc.aio.AioRpcError as error:
        # gRPC itself cuts off what is absurd, before any of our code sees it.
        cut_off = len(sent.body) > LONGEST and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return error.code().name, "" if cut_off else _flaw(error)
    return "OK", ""


def _flaw(error: grpc.aio.AioRpcError) -> str:
    """What an error's details lack."""
    packed = dict(error.trailing_metadata() or ()).get(KEY)
    if not isinstance(packed, bytes):
        return "it has no google.rpc details"
    status = status_pb2.Status.FromString(packed)
    kinds = [detail.TypeName() for detail in status.details]
    return "" if "google.rpc.ErrorInfo" in kinds and status.code == error.code().value[0] else "details do not fit"


def fuzz_worker(worker: Worker, findings: Findings, seed: int, number: int) -> None:
    """Have a worker answer one message, alone in its batch."""
    body = _hurried(requests.private(source(seed, number)).body)
    began = time.perf_counter()
    answer = worker_pb2.WorkResponse.FromString(worker.answer([body])[0])
    seconds = time.perf_counter() - began
    status = worker_pb2.WorkStatus.Name(answer.status)
    good = status in WORK_STATUSES and len(answer.message) < 1000
    findings.add("worker", number, status.removeprefix("WORK_STATUS_"), seconds, good=good, what=answer.reason)


def _hurried(body: bytes) -> bytes:
    """The same message, where it is one, with little time: a map of a million steps must end by itself."""
    deadline = worker_pb2.WorkRequest()
    deadline.deadline.FromNanoseconds(time.time_ns() + int(PATIENCE * 1e9))
    try:
        request = worker_pb2.WorkRequest.FromString(body)
    except Exception:  # no message: as it is
        return body
    if request.WhichOneof("work") == "sanity":
        request.ClearField("sanity")  # the service alone asks for it, without a deadline: minutes by design
    request.ClearField("deadline")
    request.MergeFrom(deadline)
    return request.SerializeToString()


def fuzz_image(findings: Findings, seed: int, number: int) -> None:
    """Decode a damaged image."""
    data = requests.image(source(seed, number))
    began = time.perf_counter()
    good, what = True, ""
    try:
        decode(data, LIMITS)
        status = "decoded"
    except ImageError as error:
        status = error.reason
    except Exception as error:
        status, good, what = type(error).__name__, False, "no error of ours"
    findings.add("image", number, status, time.perf_counter() - began, good=good, what=what)


class Errors(logging.Handler):
    """Collects log records of faults."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.lines.append(record.getMessage())


@contextmanager
def errors_logged() -> Iterator[list[str]]:
    """Every line of the log that tells of a fault, within a block."""
    handler = Errors()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.lines
    finally:
        logging.getLogger().removeHandler(handler)
