"""The account of a run: how every call ended, by the clients and by the service's own log."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.reliability.calls import FAILURES, Call, End

_FINISHED = re.compile(
    r" ([0-9a-f]{32}) (?:Predict|Explain|StreamExplain|CreateExplanationJob) client=.* seconds=([0-9.]+)$", re.MULTILINE
)
_UNREAD = "THROTTLED"


@dataclass(frozen=True)
class Account:
    """Counts of calls.

    Attributes:
        ends: calls by how they ended.
        reasons: calls without a right answer, by why.
        doubled: calls that the service says it answered more than once.
        unseen: calls that got an answer or a typed error of which the service's log knows nothing. It has no line for
            each call that is refused unread.
        largest_difference: of a right answer from the expected one.
        identical: share of the right answers that are equal to the expected one in every bit of every number.
    """

    ends: Counter[End]
    reasons: Counter[str]
    doubled: int
    unseen: int
    largest_difference: float
    identical: float

    @property
    def total(self) -> int:
        """All calls."""
        return self.ends.total()

    def failures(self, *, gone: bool = False) -> int:
        """Calls that broke the promise; `gone`: the service itself was away, so clients may have met nobody."""
        allowed = 0 if gone else self.ends[End.DISCONNECTED]
        return sum(self.ends[end] for end in FAILURES) + allowed + self.doubled + self.unseen


def account(calls: Sequence[Call], log: str) -> Account:
    """Add up the calls of a run and compare them with what the service logged."""
    logged = Counter(request_id for request_id, _ in _FINISHED.findall(log))
    right = [call.difference for call in calls if call.end is End.RIGHT]
    return Account(
        ends=Counter(call.end for call in calls),
        reasons=Counter(call.why for call in calls if call.why),
        doubled=sum(logged[call.request_id] > 1 for call in calls),
        unseen=sum(
            not logged[call.request_id]
            for call in calls
            if call.end in (End.RIGHT, End.TYPED, End.WRONG) and call.why != _UNREAD
        ),
        largest_difference=max(right, default=0.0),
        identical=sum(gap == 0 for gap in right) / max(1, len(right)),
    )


def service_seconds(log: str) -> dict[str, float]:
    """How long the service says that it took for each request, by request id."""
    return {request_id: float(seconds) for request_id, seconds in _FINISHED.findall(log)}


def percentile(values: Iterable[float], percent: int) -> float:
    """The value below which `percent` % of the values lie; of few values the largest."""
    ordered = sorted(values)
    if len(ordered) < 2:
        return ordered[0] if ordered else float("nan")
    return statistics.quantiles(ordered, n=100, method="inclusive")[percent - 1]
