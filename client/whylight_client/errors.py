"""What can go wrong with a call, by the status that the service answered."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """An unacceptable field of a request.

    Attributes:
        field: its path, for example "method.grad_cam.layer".
        description: what is wrong with it.
    """

    field: str
    description: str


class WhylightError(Exception):
    """The service refused a call, or could not be reached. Every error of a call is one.

    Attributes:
        code: the gRPC status.
        message: what the service says.
        reason: upper-case word for programs, for example "QUEUE_FULL" or "MODEL_NOT_FOUND"; empty where nothing of
            the service answered.
        retry_after: seconds after which a new try makes sense; None where the service names no time.
        violations: the unacceptable fields of the request.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        retry_after: float | None = None,
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.retry_after = retry_after
        self.violations = violations

    def __str__(self) -> str:
        fields = "".join(f"; {each.field}: {each.description}" for each in self.violations)
        wait = "" if self.retry_after is None else f"; try again in {self.retry_after:.3g} s"
        return f"{self.code.name}: {self.message}{fields}{wait}"


class InvalidRequestError(WhylightError):
    """The request itself is wrong: sending it again gives the same answer. `violations` says what."""


class UnauthenticatedError(WhylightError):
    """The service does not know who calls: no token or certificate, or not the right one."""


class PermissionDeniedError(WhylightError):
    """The caller is known, and may not do this."""


class NotFoundError(WhylightError):
    """No such model, version or job."""


class AlreadyExistsError(WhylightError):
    """The request id of a job stands for another request already."""


class NotApplicableError(WhylightError):
    """The method is not defined for this model's network."""


class NoRoomError(WhylightError):
    """A queue, a quota or a memory is full. `reason` says which, `retry_after` when to try again."""


class UnavailableError(WhylightError):
    """No service at the address, or none of the model's workers is ready."""


class DeadlineExceededError(WhylightError):
    """The answer was not there in time."""


class CancelledError(WhylightError):
    """The call or the job was cancelled."""


class InternalError(WhylightError):
    """A fault of the service."""


_CLASSES: dict[grpc.StatusCode, type[WhylightError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: NotApplicableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: NoRoomError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.INTERNAL: InternalError,
}
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


_TOO_LARGE = "the image is larger than the service takes in a request"
# What gRPC says by itself, before or instead of the service.
_BY_GRPC = {
    grpc.StatusCode.UNAVAILABLE: "no service answers: is it running, at this address, with TLS or without? ({})",
    grpc.StatusCode.UNIMPLEMENTED: "what answers at this address is no Whylight, or one of another version",
}


class _Failed(Protocol):
    """What gRPC raises, with or without asyncio."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, Any]] | None: ...


def from_call(error: _Failed) -> WhylightError:
    """The error of a call that gRPC ended with a status."""
    status = _details(error.trailing_metadata() or ())
    code, message = error.code(), error.details() or ""
    if status.details:
        return _make(code, message, status)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:  # no new try makes it smaller
        return InvalidRequestError(_TOO_LARGE, code=code, reason="REQUEST_TOO_LARGE")
    if message == "Deadline Exceeded":  # says gRPC in the client
        message = "no answer in time: give the call a longer timeout, or allow_partial=True, or use explain_later"
    return _make(code, _BY_GRPC.get(code, "{}").format(message), status)


def from_status(status: status_pb2.Status) -> WhylightError:
    """The error of a job."""
    return _make(_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


def _details(metadata: Iterable[tuple[str, Any]]) -> status_pb2.Status:
    for key, value in metadata:
        if key == _DETAILS:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _make(code: grpc.StatusCode, message: str, status: status_pb2.Status) -> WhylightError:
    reason, retry_after, violations = "", None, list[FieldViolation]()
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.Unpack(bad):
            violations.extend(FieldViolation(each.field, each.description) for each in bad.field_violations)
    kind = _CLASSES.get(code, WhylightError)
    return kind(message, code=code, reason=reason, retry_after=retry_after, violations=tuple(violations))
