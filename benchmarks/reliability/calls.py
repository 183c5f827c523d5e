"""One call and how it ended. Every call ends in exactly one of these ways."""

import asyncio
import enum
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from benchmarks.reliability.answers import TOLERANCE, difference
from benchmarks.reliability.questions import Question, Request, Response
from protos.explain.v1 import explanation_service_pb2 as api
from service.interceptors import REQUEST_ID_KEY
from service.status_details import DOMAIN, KEY

# A call that is still open this many seconds after its deadline has been lost.
_PATIENCE = 5.0
_STREAM = re.compile(r"prediction( preview)?( progress)* result")
_CLOCKS = 0.1  # seconds by which client and server may disagree about a deadline


class End(enum.StrEnum):
    """How a call ended."""

    RIGHT = "right answer"
    TYPED = "typed error"
    """A status with the service's own ErrorInfo."""
    LATE = "deadline of the client"
    """The client's own library ended it at the deadline that the client had chosen."""
    DISCONNECTED = "no connection"
    """gRPC itself says that the other side is not there. Right where the service itself is gone, nowhere else."""
    WRONG = "wrong answer"
    UNTYPED = "untyped error"
    LOST = "no end"


FAILURES = (End.WRONG, End.UNTYPED, End.LOST)


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        request_id: under which the service logs it.
        question: what was asked.
        end: how it ended.
        code: name of the gRPC status.
        why: reason of the ErrorInfo, else the status; "" for an answer.
        began: time.monotonic() before it was sent.
        ended: time.monotonic() when it had ended.
        difference: largest difference of the answer from the expected one; 0 without an expectation.
    """

    request_id: str
    question: Question
    end: End
    code: str
    why: str
    began: float
    ended: float
    difference: float = 0.0

    @property
    def seconds(self) -> float:
        """From sending to the end."""
        return self.ended - self.began


async def make_call(stub: Any, question: Question, timeout: float) -> Call:
    """Ask once and judge the answer.

    Args:
        stub: an ExplanationServiceStub on an asyncio channel.
        question: to ask.
        timeout: the client's deadline, in seconds.
    """
    request_id = uuid.uuid4().hex
    began = time.monotonic()
    gap = 0.0
    try:
        async with asyncio.timeout(timeout + _PATIENCE):
            answer = await _ask(stub, question.request, timeout, ((REQUEST_ID_KEY, request_id),))
        ended = time.monotonic()
        end, gap = _judge(answer, question, request_id)
        code, why = grpc.StatusCode.OK.name, ""
    except TimeoutError:
        ended, end, code, why = time.monotonic(), End.LOST, "", "no end"
    except grpc.aio.AioRpcError as error:
        ended, code = time.monotonic(), error.code().name
        end, why = classify(error, in_time=ended - began < timeout - _CLOCKS)
    return Call(request_id, question, end, code, why, began, ended, gap)


async def _ask(stub: Any, request: Request, timeout: float, metadata: tuple[tuple[str, str]]) -> Response:
    match request:
        case api.PredictRequest():
            procedure = stub.Predict
        case api.ExplainRequest():
            procedure = stub.Explain
        case api.StreamExplainRequest():
            events = [each async for each in stub.StreamExplain(request, timeout=timeout, metadata=metadata)]
            return result_of(events)
    answer: Response = await procedure(request, timeout=timeout, metadata=metadata)
    return answer


def result_of(events: Sequence[api.StreamExplainResponse]) -> api.ExplainResponse:
    """The result of a stream; an empty one, which is nobody's, where the events are not those that are promised."""
    kinds = " ".join(str(each.WhichOneof("event")) for each in events)
    if not _STREAM.fullmatch(kinds):
        return api.ExplainResponse()
    first, result = events[0].prediction, events[-1].result
    same = [score.index for score in first.predictions] == [score.index for score in result.predictions]
    return result if same else api.ExplainResponse()


def _judge(answer: Response, question: Question, request_id: str) -> tuple[End, float]:
    if answer.provenance.request_id != request_id:  # somebody else's answer
        return End.WRONG, 0.0
    if question.answer is None:
        return End.RIGHT, 0.0
    gap = difference(answer, question.answer)
    return (End.RIGHT if gap <= TOLERANCE else End.WRONG), gap


def classify(error: grpc.aio.AioRpcError, *, in_time: bool) -> tuple[End, str]:
    """How a call ended that has no answer, and why.

    The service's handlers never send CANCELLED: it is what gRPC makes of a stream that the other side dropped.

    That is at the deadline, which the two sides count by themselves, or when the server closes.
    """
    reason, code = error_reason(error), error.code()
    if reason:
        return End.TYPED, reason
    if code is grpc.StatusCode.DEADLINE_EXCEEDED or (code is grpc.StatusCode.CANCELLED and not in_time):
        return End.LATE, code.name
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return End.DISCONNECTED, code.name
    return End.UNTYPED, code.name


def error_reason(error: grpc.aio.AioRpcError) -> str:
    """The reason in the service's own ErrorInfo; "" where there is none."""
    for key, value in error.trailing_metadata() or ():
        if key == KEY:
            status = status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
            info = error_details_pb2.ErrorInfo()
            for detail in status.details:
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return str(info.reason)
    return ""
