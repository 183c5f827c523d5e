"""What can be wrong with one item of a batch, and the table from an explainer's errors to these.

Every message is written for clients: no path, nothing out of an image, no text of another library.
"""

from explainers.errors import (
    ExplainerError,
    InvalidParameterError,
    InvalidTargetError,
    NotApplicableError,
    UnknownLayerError,
)
from protos.worker.v1 import worker_pb2


class WorkError(Exception):
    """Base of every error that answers one item.

    Attributes:
        status: what the answer carries.
        reason: upper-case reason for ErrorInfo.
        message: a sentence for the client.
        field: path of the offending field in the public request; empty where none is to blame.
    """

    status: worker_pb2.WorkStatus = worker_pb2.WORK_STATUS_INTERNAL
    reason = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.reason = reason or self.reason


class InvalidWorkError(WorkError):
    """The request is wrong: sending it again gives the same answer."""

    status = worker_pb2.WORK_STATUS_INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class ImageError(InvalidWorkError):
    """The bytes are not an image that is accepted."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="image")


class ImageEmptyError(ImageError):
    """There are no bytes."""

    reason = "IMAGE_EMPTY"


class ImageFormatError(ImageError):
    """Not an image, or in a format that is not accepted."""

    reason = "IMAGE_FORMAT"


class ImageTruncatedError(ImageError):
    """The image begins well, but is damaged or incomplete."""

    reason = "IMAGE_TRUNCATED"


class ImageTooLargeError(ImageError):
    """Too many bytes, too many pixels, or too many parts."""

    reason = "IMAGE_TOO_LARGE"


class ResponseTooLargeError(InvalidWorkError):
    """The answer has no room in one message of TorchServe, which would kill the worker over it."""

    reason = "RESPONSE_TOO_LARGE"


class NotApplicableWorkError(WorkError):
    """The method is not defined for this network."""

    status = worker_pb2.WORK_STATUS_NOT_APPLICABLE
    reason = "METHOD_NOT_APPLICABLE"


class DeadlineError(WorkError):
    """Nobody waits for the answer any more."""

    status = worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class CancelledWorkError(WorkError):
    """Whoever waited for the answer has gone."""

    status = worker_pb2.WORK_STATUS_CANCELLED
    reason = "CANCELLED"


class MemoryWorkError(WorkError):
    """No memory left for this request."""

    status = worker_pb2.WORK_STATUS_RESOURCE_EXHAUSTED
    reason = "OUT_OF_MEMORY"


class FaultError(WorkError):
    """A fault of the worker. The log has it under the request id."""


def from_explainer(error: ExplainerError, method: str) -> WorkError:
    """What an explainer's error means for the request that chose `method` (its name on the wire)."""
    text = str(error)
    match error:
        case UnknownLayerError():
            return InvalidWorkError(text, field=f"method.{method}.{error.parameter}", reason="UNKNOWN_LAYER")
        case InvalidParameterError():
            return InvalidWorkError(text, field=f"method.{method}.{error.parameter}", reason="INVALID_PARAMETER")
        case InvalidTargetError():
            return InvalidWorkError(text, field="targets", reason="INVALID_TARGET")
        case NotApplicableError():
            return NotApplicableWorkError(text, field="method")
        case _:
            return FaultError("the explanation failed")
