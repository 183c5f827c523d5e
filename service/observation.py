"""The one struct per request from which the reply's timings, the metrics and the log line are made."""

import enum
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from service.identity.caller import NOBODY, Caller

STAGES = ("admission", "transport", "decode", "compute", "render", "quality")


class CacheOutcome(enum.StrEnum):
    """Whether an answer was computed for its request: types.proto says what each means."""

    MISS = "miss"
    HIT = "hit"
    SHARED = "shared"
    BYPASS = "bypass"


@dataclass(frozen=True)
class CacheUse:
    """How an answer came about, and how many seconds ago a kept one was computed."""

    outcome: CacheOutcome
    age: float = 0.0

    @property
    def repeated(self) -> bool:
        """Whether the same computation answers an earlier request as well."""
        return self.outcome in (CacheOutcome.HIT, CacheOutcome.SHARED)


@dataclass
class Observation:
    """What is known of a request while it runs.

    Attributes:
        request_id: identifies the request in logs, metadata and provenance.
        rpc: name of the remote procedure.
        model: name of a deployed model, or "" before one was found: a client's own text never becomes a label.
        method: name of the saliency method, or "".
        stages: seconds by stage, a subset of STAGES.
        started: time.perf_counter() at the beginning.
        caller: who asks.
        cache: how the answer came about; None where no answers are kept.
    """

    request_id: str
    rpc: str
    model: str = ""
    method: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    caller: Caller = NOBODY
    cache: CacheUse | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self.started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage, also when it fails."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = time.perf_counter() - began


_current: ContextVar[Observation] = ContextVar("observation")


def current() -> Observation:
    """The observation of the request that this task works on."""
    return _current.get()


def observed() -> Observation | None:
    """The observation of this task, or None where its call is not observed."""
    return _current.get(None)


@contextmanager
def observing(observation: Observation) -> Iterator[Observation]:
    """Make `observation` the current one of this task."""
    token = _current.set(observation)
    try:
        yield observation
    finally:
        _current.reset(token)
