"""The one struct per request from which the reply's timings, the metrics and the log line are made."""

import enum
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

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
class Interval:
    """A part of a request's life, for its trace.

    Attributes:
        name: what was done, for example "admission" or "worker".
        began: Unix time in nanoseconds.
        ended: the same; 0 while it goes on.
        inner: its own parts.
    """

    name: str
    began: int
    ended: int = 0
    inner: list["Interval"] = field(default_factory=list)

    def place(self, name: str, began: int, seconds: float) -> "Interval":
        """Add a part that somebody else measured."""
        part = Interval(name, began, began + int(seconds * 1e9))
        self.inner.append(part)
        return part


@dataclass
class Observation:
    """What is known of a request while it runs.

    Attributes:
        request_id: identifies the request in logs, metadata and provenance.
        rpc: name of the remote procedure, or of what else a client has done.
        model: name of a deployed model, or "" before one was found: a client's own text never becomes a label.
        method: name of the saliency method, or "".
        stages: seconds by stage, a subset of STAGES.
        started: time.perf_counter() at the beginning.
        caller: who asks.
        cache: how the answer came about; None where no answers are kept.
        path: full name of the remote procedure, "explain.v1.ExplanationService/Explain"; "" where it is none.
        traceparent: the client's own trace context as it was sent, unchecked, or "".
        began: Unix time in nanoseconds at the beginning.
        intervals: what was done, in order.
        parts: what its images are counted by, where it has several; else it is counted itself.
    """

    request_id: str
    rpc: str
    model: str = ""
    method: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    caller: Caller = NOBODY
    cache: CacheUse | None = None
    path: str = ""
    traceparent: str = ""
    began: int = field(default_factory=time.time_ns)
    intervals: list[Interval] = field(default_factory=list)
    parts: list["Observation"] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self.started

    def part(self) -> "Observation":
        """The observation of one of several images, with stages of its own and the intervals of the whole."""
        part = replace(self, stages={}, cache=None, parts=[])
        self.parts.append(part)
        return part

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage, also when it fails."""
        began = time.perf_counter()
        try:
            with self.interval(name):
                yield
        finally:
            self.stages[name] = time.perf_counter() - began

    @contextmanager
    def interval(self, name: str) -> Iterator[Interval]:
        """Note when something was done, also when it fails."""
        interval = Interval(name, time.time_ns())
        self.intervals.append(interval)
        try:
            yield interval
        finally:
            interval.ended = time.time_ns()


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
