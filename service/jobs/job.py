"""A job as the rest of the service sees it."""

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """One job. All times are seconds since the epoch.

    Attributes:
        name: 32 hexadecimal digits that nobody can guess; also the request id of its work.
        client: name of the client whose job it is.
        request_id: the client's own id for the request; "" for none.
        digest: of the whole request, to know it again when it has been deleted.
        model: name of a model that was deployed when the job was made.
        method: name of its saliency method.
        timeout: most seconds for one attempt.
        ttl: most seconds to wait for the end, and to keep the result.
        created: when it was made.
        expires: when it is given up, or, after its end, forgotten.
        state: how far it is.
        attempts: how often it was begun.
        started: when it was begun the last time.
        ended: when it ended.
        result: a serialised ExplainResponse where it succeeded, a google.rpc.Status where it did not, b"" before.
    """

    name: str
    client: str
    request_id: str
    digest: bytes
    model: str
    method: str
    timeout: float
    ttl: float
    created: float
    expires: float
    state: State = State.QUEUED
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    result: bytes = b""


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes:
        state: SUCCEEDED, FAILED or CANCELLED.
        code: name of its gRPC status.
        result: as `Job.result`.
    """

    state: State
    code: str
    result: bytes
