"""What can go wrong, and the one table from errors to gRPC status codes.

Every message is written for clients: no path, no value out of an image, no text of another library.
"""

from dataclasses import dataclass

import grpc


@dataclass(frozen=True)
class Violation:
    """One unacceptable field of a request: its path, for example "method.grad_cam.layer", and what is wrong with it."""

    field: str
    description: str


class ServiceError(Exception):
    """Base of every error that reaches a client.

    Attributes:
        reason: upper-case reason for google.rpc.ErrorInfo.
        retry_after: seconds after which a retry makes sense, or None where it makes none.
        violations: the unacceptable fields of the request.
    """

    reason = "INTERNAL"
    retry_after: float | None = None
    violations: tuple[Violation, ...] = ()

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.reason


class InvalidRequestError(ServiceError):
    """The request itself is wrong: sending it again gives the same answer."""

    reason = "INVALID_REQUEST"

    def __init__(self, message: str, violations: tuple[Violation, ...], *, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.violations = violations

    def within(self, field: str) -> "InvalidRequestError":
        """The same of a request that is a field of another one."""
        nested = tuple(Violation(f"{field}.{each.field}", each.description) for each in self.violations)
        return InvalidRequestError(self.message, nested, reason=self.reason)


class UnauthenticatedError(ServiceError):
    """Nobody knows who calls."""

    reason = "CREDENTIALS_INVALID"


class PermissionDeniedError(ServiceError):
    """The client is known, and may not do this."""

    reason = "ROLE_NOT_ALLOWED"


class QuotaError(ServiceError):
    """The client has asked often enough for now."""

    reason = "QUOTA_EXCEEDED"

    def __init__(self, message: str, *, reason: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class ModelNotFoundError(ServiceError):
    """No such model, or not in that version."""

    reason = "MODEL_NOT_FOUND"


class MethodNotApplicableError(ServiceError):
    """The method is not defined for this model's network."""

    reason = "METHOD_NOT_APPLICABLE"


class NoRoomError(ServiceError):
    """The queue is full, or so long that the deadline would pass."""

    reason = "QUEUE_FULL"
    retry_after = 1.0

    def __init__(self, message: str, *, reason: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, reason=reason)
        if retry_after is not None:
            self.retry_after = retry_after


class OutOfMemoryError(ServiceError):
    """The worker has no memory for this request."""

    reason = "OUT_OF_MEMORY"
    retry_after = 5.0


class DrainingError(ServiceError):
    """The service is shutting down and takes no new work."""

    reason = "DRAINING"
    retry_after = 5.0


class WorkerUnavailableError(ServiceError):
    """No worker for this model: it is loading, crashed or unreachable."""

    reason = "WORKER_UNAVAILABLE"
    retry_after = 2.0


class JobNotFoundError(ServiceError):
    """The client has no such job: there is none, or it is another client's."""

    reason = "JOB_NOT_FOUND"


class JobConflictError(ServiceError):
    """The client's request id stands for another request already."""

    reason = "REQUEST_ID_REUSED"


class JobsFullError(ServiceError):
    """As many jobs, or as many bytes of jobs, as there may be."""

    reason = "JOBS_FULL"
    retry_after = 60.0


class JobCancelledError(ServiceError):
    """The client has cancelled its job."""

    reason = "JOB_CANCELLED"


class StorageFullError(ServiceError):
    """No room on the disk for jobs."""

    reason = "STORAGE_FULL"
    retry_after = 60.0


class StorageUnavailableError(ServiceError):
    """The jobs cannot be read or written now."""

    reason = "STORAGE_UNAVAILABLE"
    retry_after = 10.0


class DeadlineError(ServiceError):
    """The client's deadline has passed, or would pass before an answer."""

    reason = "DEADLINE_EXCEEDED"


class InternalError(ServiceError):
    """A fault of ours. The log has it under the request id."""


STATUS_CODES: dict[type[ServiceError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    QuotaError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ModelNotFoundError: grpc.StatusCode.NOT_FOUND,
    MethodNotApplicableError: grpc.StatusCode.FAILED_PRECONDITION,
    NoRoomError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OutOfMemoryError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DrainingError: grpc.StatusCode.UNAVAILABLE,
    WorkerUnavailableError: grpc.StatusCode.UNAVAILABLE,
    JobNotFoundError: grpc.StatusCode.NOT_FOUND,
    JobConflictError: grpc.StatusCode.ALREADY_EXISTS,
    JobsFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    JobCancelledError: grpc.StatusCode.CANCELLED,
    StorageFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StorageUnavailableError: grpc.StatusCode.UNAVAILABLE,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    InternalError: grpc.StatusCode.INTERNAL,
}
