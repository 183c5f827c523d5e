"""A client that makes jobs, whatever happens meanwhile, and then sees what has become of each."""

import asyncio
import contextlib
import itertools
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2

from benchmarks.reliability.answers import TOLERANCE, difference
from benchmarks.reliability.calls import End, classify
from benchmarks.reliability.load import CHANNEL_OPTIONS
from benchmarks.reliability.questions import Question
from benchmarks.reliability.tables import table
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.job_client import metadata, response
from service.jobs.outcome import PREFIX

MOST = 30  # jobs of a run, fewer than a client may have
PAUSE = 0.3  # seconds between two jobs, and before a refused one is sent again
DEADLINE = 4.0  # seconds of each call
LONGEST = 120.0  # seconds within which all of them must have ended
_ENDED = re.compile(r" ([0-9a-f]{32}) ended: \w+$", re.MULTILINE)


@dataclass(frozen=True)
class Made:
    """A job that was accepted.

    Attributes:
        question: what it answers.
        name: of its operation.
        sent: time.time() before it was sent with success.
    """

    question: Question
    name: str
    sent: float


@dataclass(frozen=True)
class JobAccount:
    """What became of the jobs.

    Attributes:
        accepted: how many there were.
        right: those that have the answer that Explain gave.
        wrong: those that have another one.
        failed: those that ended with a typed error, by reason.
        lost: those that are not there any more, or have not ended.
        doubled: jobs that nobody made or that stand for a request twice, and ends that the service logged again.
        again: those that were begun more than once.
        most_attempts: the most that one of them was begun.
        refused: calls of CreateExplanationJob without an operation, by reason.
        untyped: those of them without a typed error, though the service was there.
        accepted_after: seconds from the end of the event until a job was accepted that was sent after it.
        ended_after: seconds from the end of the event until all jobs of before had ended; 0: they had.
    """

    accepted: int
    right: int
    wrong: int
    failed: Counter[str]
    lost: int
    doubled: int
    again: int
    most_attempts: int
    refused: Counter[str]
    untyped: int
    accepted_after: float
    ended_after: float

    @property
    def failures(self) -> int:
        """Jobs and calls that broke the promise."""
        return self.wrong + self.lost + self.doubled + self.untyped


class JobLoad:
    """Makes one job after the other, each with a request id; what got no operation is sent again under the same one.

    Args:
        address: host:port of the service.
        questions: what to ask; only their explanations.
    """

    def __init__(self, address: str, questions: Sequence[Question]) -> None:
        self._address = address
        self._questions = [(each, each.asked) for each in questions if isinstance(each.asked, api.ExplainRequest)]
        self._run = uuid.uuid4().hex[:8]
        self._began = time.time()
        self._stopped = False
        self.made: dict[str, Made] = {}
        """The accepted jobs, by their client's request id."""
        self.refused: Counter[str] = Counter()
        """Calls without an operation, by reason."""
        self._ends: Counter[End] = Counter()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["JobLoad"]:
        """Make jobs for the length of a block."""
        making = asyncio.create_task(self._make_all())
        try:
            yield self
        finally:
            self._stopped = True
            await making

    async def _make_all(self) -> None:
        async with grpc.aio.insecure_channel(self._address, CHANNEL_OPTIONS) as channel:
            stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]
            for number, (question, asked) in zip(range(MOST), itertools.cycle(self._questions), strict=False):
                if self._stopped:
                    return
                limit, request_id = Duration(seconds=int(LONGEST)), f"{self._run}-{number}"
                request = api.CreateExplanationJobRequest(
                    request=asked, request_id=request_id, timeout=limit, ttl=Duration(seconds=3600)
                )
                async with asyncio.timeout(LONGEST):  # to its acceptance, also after the block: it may have arrived
                    self.made[request_id] = await self._make(stub, question, request)
                await asyncio.sleep(PAUSE)

    async def _make(
        self, stub: api_grpc.ExplanationServiceStub, question: Question, request: api.CreateExplanationJobRequest
    ) -> Made:
        while True:
            sent, began = time.time(), time.monotonic()
            try:
                operation = await stub.CreateExplanationJob(request, timeout=DEADLINE)
                return Made(question, operation.name, sent)
            except grpc.aio.AioRpcError as error:
                end, why = classify(error, in_time=time.monotonic() - began < DEADLINE - PAUSE)
                self.refused[why] += 1
                self._ends[end] += 1
                await asyncio.sleep(PAUSE)

    async def settle(self, over: float, log: Callable[[], str], *, gone: bool = False) -> JobAccount:
        """Wait until all have ended, judge, and delete them.

        Args:
            over: time.time() at the end of the event.
            log: gives what the service has logged.
            gone: the service itself was away, so the client may have met nobody.
        """
        async with grpc.aio.insecure_channel(self._address, CHANNEL_OPTIONS) as channel:
            operations = operations_pb2_grpc.OperationsStub(channel)
            found = {each.name: await _ended(operations, each.name) for each in self.made.values()}
            all_of_now = [metadata(each) async for each in _listed(operations)]
            # Jobs of before are others' business: the tests share one service.
            listed = Counter(each.request_id for each in all_of_now if _seconds(each.create_time) >= self._began)
            for name, each in found.items():
                if each is not None:
                    await operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name))
        return self._judge(found, listed, Counter(_ENDED.findall(log())), over, gone)

    def _judge(
        self,
        found: Mapping[str, operations_pb2.Operation | None],
        listed: Counter[str],
        logged: Counter[str],
        over: float,
        gone: bool,
    ) -> JobAccount:
        jobs = [(made, found[made.name]) for made in self.made.values()]
        there = [(made, each) for made, each in jobs if each is not None]
        answered = [_is_right(made, each) for made, each in there if each.HasField("response")]
        attempts = [metadata(each).attempts for _, each in there]
        before = [_seconds(metadata(each).end_time) for made, each in there if made.sent < over]
        after = [_seconds(metadata(each).create_time) for made, each in there if made.sent >= over]
        allowed = (End.TYPED, End.LATE, End.DISCONNECTED) if gone else (End.TYPED, End.LATE)
        return JobAccount(
            accepted=len(jobs),
            right=sum(answered),
            wrong=len(answered) - sum(answered),
            failed=Counter(_reason(each) for _, each in there if each.HasField("error")),
            lost=len(jobs) - len(there),
            doubled=sum(number - (request_id in self.made) for request_id, number in listed.items())
            + sum(logged[made.name.removeprefix(PREFIX)] > 1 for made, _ in jobs),
            again=sum(number > 1 for number in attempts),
            most_attempts=max(attempts, default=0),
            refused=self.refused,
            untyped=sum(number for end, number in self._ends.items() if end not in allowed),
            accepted_after=min(after, default=float("nan")) - over,
            ended_after=max(0.0, max(before, default=over) - over),
        )


async def _ended(operations: operations_pb2_grpc.OperationsStub, name: str) -> operations_pb2.Operation | None:
    """A job when it has ended; None: it is not there, or does not end."""
    limit = Duration(seconds=int(LONGEST))
    try:
        request = operations_pb2.WaitOperationRequest(name=name, timeout=limit)
        operation = await operations.WaitOperation(request, timeout=LONGEST + DEADLINE)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
    return operation if operation.done else None


async def _listed(operations: operations_pb2_grpc.OperationsStub) -> AsyncIterator[operations_pb2.Operation]:
    token = ""
    while True:
        page = await operations.ListOperations(operations_pb2.ListOperationsRequest(page_token=token))
        for each in page.operations:
            yield each
        token = page.next_page_token
        if not token:
            return


def _seconds(time_stamp: Timestamp) -> float:
    """A point in time as time.time() gives it."""
    return time_stamp.ToNanoseconds() / 1e9


def _is_right(made: Made, operation: operations_pb2.Operation) -> bool:
    """Whether a job's answer is its own, and the one that Explain gave."""
    answer, expected = response(operation), made.question.answer
    if answer is None or answer.provenance.request_id != made.name.removeprefix(PREFIX):
        return False
    return expected is None or difference(answer, expected) <= TOLERANCE


def _reason(operation: operations_pb2.Operation) -> str:
    """The reason of the error that a job ended with."""
    info = error_details_pb2.ErrorInfo()
    for detail in operation.error.details:
        if detail.Unpack(info):
            return str(info.reason)
    return "no reason"


def job_counts(accounts: Mapping[str, JobAccount]) -> str:
    """What became of the jobs of each run, as a table."""
    head = ["", "jobs", "right answer", "wrong answer", "typed error", "lost", "doubled", "begun again",
            "accepted again after", "all of before ended after", "refused meanwhile"]  # fmt: skip
    rows = [
        [name, each.accepted, each.right, each.wrong, each.failed.total(), each.lost, each.doubled,
         f"{each.again} (at most {each.most_attempts} times)" if each.again else 0,
         f"{each.accepted_after:.1f} s" if each.accepted_after >= 0 else "none sent", f"{each.ended_after:.1f} s",
         ", ".join(f"{reason} {number}" for reason, number in each.refused.most_common()) or "none"]
        for name, each in accounts.items()
    ]  # fmt: skip
    reasons = [f"{name}: {dict(each.failed)}." for name, each in accounts.items() if each.failed]
    broke = sum(each.failures for each in accounts.values())
    return "\n".join(
        [
            table(head, rows),
            "",
            f"{broke} of them broke the promise.",
            *(["Typed errors. " + " ".join(reasons)] if reasons else []),
        ]
    )
