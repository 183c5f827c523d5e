"""What a request is expected to cost a worker, by what requests like it have cost."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from protos.explain.v1 import method_pb2
from protos.worker.v1 import worker_pb2
from service.commands import ExplainCommand, PredictCommand

WEIGHT = 0.2  # of the newest request in the mean
GROWTH = 1.2  # by which the least may rise with each request
BELIEF, LONGEST_BELIEF = 3.0, 60.0  # how long the least is believed: times itself, and in seconds
MOST = 4096  # kinds of requests to remember


@dataclass(frozen=True)
class Kind:
    """Requests that cost about the same: of one model, with the same method, parameters, figures, number of classes.

    Attributes:
        model: name of the model.
        digest: of everything else; empty for predictions.
    """

    model: str
    digest: bytes = b""


def kind_of(command: PredictCommand) -> Kind:
    """The kind of a command."""
    if not isinstance(command, ExplainCommand):
        return Kind(command.model)
    quality = command.quality.SerializeToString(deterministic=True)
    return _kind(command.model, command.method, command.classes, quality)


def default_kind(model: str, method: str) -> Kind:
    """Maps of one class by a method's default parameters, without figures of quality."""
    message = method_pb2.Method()
    getattr(message, method).SetInParent()
    return _kind(model, message, 1, b"")


def _kind(model: str, method: method_pb2.Method, classes: int, quality: bytes) -> Kind:
    """Only a digest: parameters are the client's text, and may be long."""
    parts = (method.SerializeToString(deterministic=True), str(classes).encode(), quality)
    return Kind(model, hashlib.blake2b(b"".join(hashlib.blake2b(part).digest() for part in parts)).digest()[:16])


def worker_seconds(result: worker_pb2.ImageResult) -> float:
    """The time that a worker says it took for a request."""
    stages = (result.decode, result.compute, result.quality, result.render)
    return float(sum(stage.ToNanoseconds() for stage in stages)) / 1e9


@dataclass
class _Expectation:
    """The mean, the time below which no request has been lately, and when it last learned."""

    mean: float
    least: float
    at: float


class Costs:
    """What is expected of each kind of requests. The kinds seen last are remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Kind, _Expectation] = OrderedDict()

    def expected(self, kind: Kind) -> float | None:
        """Seconds that a request of this kind takes, a mean in which the newest count most; None before the first."""
        known = self._known.get(kind)
        return known.mean if known else None

    def at_least(self, kind: Kind) -> float:
        """Seconds that a request of this kind takes at the very least; 0 where that is not known.

        One that took unusually long does not raise it much, and it is only believed for a while: it keeps requests
        away, and they can't correct it then.
        """
        known = self._known.get(kind)
        if known is None or self._clock() - known.at > min(LONGEST_BELIEF, 1 + BELIEF * known.least):
            return 0.0
        return known.least

    def learn(self, kind: Kind, seconds: float) -> None:
        """A request of this kind took so long."""
        known = self._known.get(kind)
        if known is None:
            self._set(kind, seconds, seconds)
        else:
            mean = known.mean + WEIGHT * (seconds - known.mean)
            self._set(kind, mean, min(seconds, GROWTH * known.least))

    def learn_at_least(self, kind: Kind, seconds: float) -> None:
        """A request of this kind was not done after so long."""
        known = self._known.get(kind)
        self._set(kind, max(seconds, known.mean if known else 0), max(seconds, known.least if known else 0))

    def _set(self, kind: Kind, mean: float, least: float) -> None:
        self._known[kind] = _Expectation(mean, least, self._clock())
        self._known.move_to_end(kind)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
