"""google.rpc details of an error, as gRPC carries them in trailing metadata."""

import math

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from service.errors import STATUS_CODES, ServiceError

DOMAIN = "whylight"
KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # what gRPC's own retries look at; -1: do not try again
LONGEST_PUSHBACK = 5.0  # seconds; whether to wait longer is for the caller to say


def to_status(error: ServiceError) -> status_pb2.Status:
    """ErrorInfo always; BadRequest where fields are wrong; RetryInfo where a retry makes sense."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=STATUS_CODES[type(error)].value[0], message=error.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def trailing_metadata(error: ServiceError) -> tuple[tuple[str, str | bytes], ...]:
    """The status in full, as the client of a call gets it, and when its gRPC may try again by itself."""
    wait = error.retry_after
    pushback = -1 if wait is None or wait > LONGEST_PUSHBACK else math.ceil(wait * 1000)
    return ((KEY, to_status(error).SerializeToString()), (PUSHBACK_KEY, str(pushback)))


def to_abort(error: ServiceError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """The arguments for a context's `abort`."""
    return STATUS_CODES[type(error)], error.message, trailing_metadata(error)
