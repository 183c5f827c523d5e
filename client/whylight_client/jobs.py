"""Explanations that outlive the connection: what the service says of a job, and handles to follow one."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from google.longrunning import operations_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from whylight_client._protos.explain.v1 import explanation_service_pb2 as api
from whylight_client._protos.explain.v1 import job_pb2
from whylight_client.calls import AsyncCalls, Calls
from whylight_client.choices import duration
from whylight_client.errors import from_status
from whylight_client.from_messages import name_of, to_explanation
from whylight_client.results import ExplainResult

_LONGEST_LOOK = 30.0  # seconds that one call waits for the end of a job
_MARGIN = 10.0  # seconds that it may take longer


@dataclass(frozen=True)
class JobStatus:
    """A job as it was at one moment.

    Attributes:
        name: of the job.
        state: "QUEUED", "RUNNING", "SUCCEEDED", "FAILED" or "CANCELLED".
        done: it has ended, in one of the last three.
        model: name of the model.
        method: name of the method.
        request_id: the client's own id for it; empty where it gave none.
        created: when it was made.
        started: when it was begun the last time; None where it has not been.
        ended: None until it has.
        expires: before the end when it is given up, after it when it is forgotten with its result.
        attempts: how often it was begun.
        step: while a method in steps runs, how many are done.
        steps: likewise, how many there will be; 0 where there is nothing to tell.
        objective: of a method that maximises something: the best value so far; None where there is none to tell.
    """

    name: str
    state: str
    done: bool
    model: str
    method: str
    request_id: str
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    expires: datetime | None
    attempts: int
    step: int
    steps: int
    objective: float | None


class Job:
    """A job to follow, by `Client.explain_later` or `Client.job`.

    Attributes:
        name: it is known by to the service, also to another process of the same client.
    """

    def __init__(self, calls: Calls, name: str, source: bytes | None = None) -> None:
        self.name = name
        self._calls = calls
        self._source = source

    def status(self) -> JobStatus:
        """The job as it is now.

        Raises:
            NotFoundError: the client has no such job, or has none any more.
        """
        request = operations_pb2.GetOperationRequest(name=self.name)
        return to_job_status(self._calls.unary(self._calls.operations.GetOperation, request, None))

    def wait(self, seconds: float | None = None) -> JobStatus:
        """The job when it has ended, or as it is after some seconds.

        Raises:
            NotFoundError: as of `status`.
        """
        return to_job_status(self._waited(seconds))

    def result(self, seconds: float | None = None) -> ExplainResult:
        """The explanation, once it is there.

        Raises:
            WhylightError: the job failed, or was cancelled.
            TimeoutError: it has not ended after `seconds`.
        """
        return to_result(self._waited(seconds), self._source)

    def cancel(self) -> None:
        """End the job, and keep it. One that has ended stays as it is."""
        request = operations_pb2.CancelOperationRequest(name=self.name)
        self._calls.unary(self._calls.operations.CancelOperation, request, None)

    def delete(self) -> None:
        """Forget the job and its result; one that has not ended is cancelled."""
        request = operations_pb2.DeleteOperationRequest(name=self.name)
        self._calls.unary(self._calls.operations.DeleteOperation, request, None)

    def _waited(self, seconds: float | None) -> operations_pb2.Operation:
        for look in looks(seconds):
            request = operations_pb2.WaitOperationRequest(name=self.name, timeout=duration(look))
            operation = self._calls.unary(self._calls.operations.WaitOperation, request, look + _MARGIN)
            if operation.done:
                break
        return operation


class AsyncJob:
    """As `Job`, for asyncio.

    Attributes:
        name: as of `Job`.
    """

    def __init__(self, calls: AsyncCalls, name: str, source: bytes | None = None) -> None:
        self.name = name
        self._calls = calls
        self._source = source

    async def status(self) -> JobStatus:
        """As `Job.status`."""
        request = operations_pb2.GetOperationRequest(name=self.name)
        return to_job_status(await self._calls.unary(self._calls.operations.GetOperation, request, None))

    async def wait(self, seconds: float | None = None) -> JobStatus:
        """As `Job.wait`."""
        return to_job_status(await self._waited(seconds))

    async def result(self, seconds: float | None = None) -> ExplainResult:
        """As `Job.result`."""
        return to_result(await self._waited(seconds), self._source)

    async def cancel(self) -> None:
        """As `Job.cancel`."""
        request = operations_pb2.CancelOperationRequest(name=self.name)
        await self._calls.unary(self._calls.operations.CancelOperation, request, None)

    async def delete(self) -> None:
        """As `Job.delete`."""
        request = operations_pb2.DeleteOperationRequest(name=self.name)
        await self._calls.unary(self._calls.operations.DeleteOperation, request, None)

    async def _waited(self, seconds: float | None) -> operations_pb2.Operation:
        for look in looks(seconds):
            request = operations_pb2.WaitOperationRequest(name=self.name, timeout=duration(look))
            operation = await self._calls.unary(self._calls.operations.WaitOperation, request, look + _MARGIN)
            if operation.done:
                break
        return operation


def looks(seconds: float | None) -> Iterator[float]:
    """How long each call may wait for the end of a job, so that all of them wait `seconds`; at least one."""
    end = None if seconds is None else time.monotonic() + seconds
    while end is None:
        yield _LONGEST_LOOK
    yield min(_LONGEST_LOOK, max(0.0, end - time.monotonic()))
    while (left := end - time.monotonic()) > 0:
        yield min(_LONGEST_LOOK, left)


def to_job_status(operation: operations_pb2.Operation) -> JobStatus:
    """What an operation says of its job."""
    metadata = job_pb2.ExplanationJobMetadata()
    operation.metadata.Unpack(metadata)
    return JobStatus(
        name=operation.name,
        state=name_of(job_pb2.JobState, metadata.state),
        done=operation.done,
        model=metadata.model,
        method=metadata.method,
        request_id=metadata.request_id,
        created=_time(metadata.create_time),
        started=_time(metadata.start_time),
        ended=_time(metadata.end_time),
        expires=_time(metadata.expire_time),
        attempts=metadata.attempts,
        step=metadata.step,
        steps=metadata.steps,
        objective=metadata.objective if metadata.HasField("objective") else None,
    )


def to_result(operation: operations_pb2.Operation, source: bytes | None) -> ExplainResult:
    """The explanation that a job has made of the file `source`.

    Raises:
        WhylightError: the job failed, or was cancelled.
        TimeoutError: it has not ended.
    """
    if not operation.done:
        raise TimeoutError(f"{operation.name} has not ended yet")
    if operation.HasField("error"):
        raise from_status(operation.error)
    response = api.ExplainResponse()
    operation.response.Unpack(response)
    return to_explanation(response, source)


def _time(message: Timestamp) -> datetime | None:
    """The moment; None where the message is empty."""
    return message.ToDatetime(UTC) if message.ByteSize() else None
