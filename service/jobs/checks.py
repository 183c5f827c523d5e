"""Checks what clients ask of jobs."""

import base64
import contextlib
import re
from dataclasses import dataclass

from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration

from protos.explain.v1 import explanation_service_pb2 as api
from service.errors import InvalidRequestError, Violation
from service.jobs.outcome import PREFIX

DEFAULT_PAGE, LARGEST_PAGE = 50, 100
LEAST_TIMEOUT, LEAST_TTL = 1.0, 60.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FILTERS = {"": None, "done=true": True, "done=false": False}


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        timeout: most seconds of one attempt.
        ttl: most seconds to wait, and to keep a result.
        max_image_bytes: largest encoded image.
    """

    timeout: float
    ttl: float
    max_image_bytes: int


@dataclass(frozen=True)
class Page:
    """Which of a client's jobs to list.

    Attributes:
        done: only those that have ended, or only those that have not; None for all.
        before: where the page begins; None for the first one.
        limit: at most so many.
    """

    done: bool | None
    before: int | None
    limit: int


def to_times(request: api.CreateExplanationJobRequest, limits: Limits) -> tuple[float, float]:
    """Seconds of timeout and ttl.

    Raises:
        InvalidRequestError: one of them, or the client's id, is not acceptable.
    """
    violations = []
    if request.request_id and not _REQUEST_ID.fullmatch(request.request_id):
        violations.append(Violation("request_id", "must be 1 to 64 of A-Z a-z 0-9 . _ -"))
    chosen = []
    for field, least, most in (("timeout", LEAST_TIMEOUT, limits.timeout), ("ttl", LEAST_TTL, limits.ttl)):
        seconds = to_seconds(getattr(request, field)) if request.HasField(field) else most
        if not min(least, most) <= seconds <= most:
            violations.append(Violation(field, f"must be between {min(least, most):g} s and {most:g} s"))
        chosen.append(seconds)
    _refuse(violations)
    return chosen[0], chosen[1]


def to_page(request: operations_pb2.ListOperationsRequest) -> Page:
    """Which jobs to list.

    Raises:
        InvalidRequestError: filter, page size or page token is not acceptable.
    """
    wanted = request.filter.replace(" ", "")
    before = _from_token(request.page_token)
    checks = (
        ("name", request.name in ("", PREFIX.rstrip("/")), 'must be "operations" or empty'),
        ("filter", wanted in _FILTERS, 'must be "done=true", "done=false" or empty'),
        ("page_size", request.page_size >= 0, "must not be negative"),
        ("page_token", before is not None or request.page_token == "", "is no token that this server gave"),
    )
    _refuse([Violation(field, description) for field, right, description in checks if not right])
    return Page(_FILTERS[wanted], before, min(request.page_size or DEFAULT_PAGE, LARGEST_PAGE))


def _refuse(violations: list[Violation]) -> None:
    if violations:
        fields = ", ".join(violation.field for violation in violations)
        raise InvalidRequestError(f"unacceptable: {fields}", tuple(violations))


def to_seconds(duration: Duration) -> float:
    """A duration in seconds, whatever a client wrote into its fields."""
    return float(duration.seconds + duration.nanos / 1e9)


def to_token(seq: int) -> str:
    """Where a page begins, in a form that clients do not try to understand."""
    return base64.urlsafe_b64encode(f"before {seq}".encode()).decode()


def _from_token(token: str) -> int | None:
    with contextlib.suppress(ValueError):
        word, _, seq = base64.b64decode(token.encode(), b"-_", validate=True).decode().partition(" ")
        if word == "before" and seq.isdecimal() and len(seq) < 19:
            return int(seq)
    return None
