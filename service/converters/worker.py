"""Between commands and the private messages of the worker."""

import time

from google.protobuf import timestamp_pb2

from protos.worker.v1 import worker_pb2
from service.commands import ExplainCommand, PredictCommand
from service.errors import (
    DeadlineError,
    InternalError,
    InvalidRequestError,
    MethodNotApplicableError,
    OutOfMemoryError,
    ServiceError,
    Violation,
    WorkerUnavailableError,
)

_ERRORS: dict[int, type[ServiceError]] = {
    worker_pb2.WORK_STATUS_NOT_APPLICABLE: MethodNotApplicableError,
    worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED: DeadlineError,
    worker_pb2.WORK_STATUS_RESOURCE_EXHAUSTED: OutOfMemoryError,
    # Nobody should be there to hear this; for whoever is, another try makes sense.
    worker_pb2.WORK_STATUS_CANCELLED: WorkerUnavailableError,
}


def to_work_request(
    command: PredictCommand, request_id: str, timeout: float, following: worker_pb2.Following | None = None
) -> bytes:
    """The body of a request to the worker, which nobody waits for after `timeout` seconds."""
    work = worker_pb2.ImageWork(image=command.image, top_k=command.top_k)
    if isinstance(command, ExplainCommand):
        work.method.CopyFrom(command.method)
        work.class_indices.extend(command.class_indices)
        work.target_top_k = command.target_top_k
        work.output.CopyFrom(command.output)
        work.quality.CopyFrom(command.quality)
        work.allow_partial = command.allow_partial
    return to_request(request_id, timeout, image=work, following=following)


def to_describe_request(request_id: str, timeout: float) -> bytes:
    """The body of a request that asks a worker what its model can do."""
    return to_request(request_id, timeout, describe=worker_pb2.DescribeWork())


def to_request(
    request_id: str,
    timeout: float,
    image: worker_pb2.ImageWork | None = None,
    describe: worker_pb2.DescribeWork | None = None,
    sanity: worker_pb2.SanityWork | None = None,
    following: worker_pb2.Following | None = None,
) -> bytes:
    """The body of a request for one piece of work."""
    deadline = timestamp_pb2.Timestamp()
    deadline.FromNanoseconds(time.time_ns() + int(timeout * 1e9))
    request = worker_pb2.WorkRequest(
        request_id=request_id,
        deadline=deadline,
        image=image,
        describe=describe,
        sanity=sanity,
        following=following,
    )
    return request.SerializeToString()


def from_work_response(body: bytes, request_id: str) -> worker_pb2.WorkResponse:
    """The worker's answer.

    Raises:
        ServiceError: the one that the answer's status means.
    """
    response = worker_pb2.WorkResponse.FromString(body)
    if response.status == worker_pb2.WORK_STATUS_OK:
        return response
    if response.status == worker_pb2.WORK_STATUS_INVALID_ARGUMENT:
        violations = tuple(Violation(item.field, item.description) for item in response.violations)
        raise InvalidRequestError(response.message, violations, reason=response.reason or None)
    error = _ERRORS.get(response.status)
    if error is None:
        raise InternalError(f"internal error, request {request_id}")
    raise error(response.message, reason=response.reason or None)
