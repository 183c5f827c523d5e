"""How often each client may ask."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.commands import ExplainCommand, PredictCommand
from service.errors import QuotaError
from service.identity.caller import Caller


@dataclass
class _Bucket:
    """What is left of a quota, and when that was so."""

    level: float
    at: float


class Quotas:
    """Token buckets: a quota of n a minute allows n at once, and refills evenly within a minute.

    Predictions and explanations have quotas of their own: a map says more of a model than its answer does. A call that
    is refused takes nothing. Every call that is let through counts, also one that fails later.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def charge(self, caller: Caller, *commands: PredictCommand) -> None:
        """Count commands, all or none: one explanation for each class to explain, or one prediction.

        Raises:
            QuotaError: the caller has none left.
        """
        classes = sum(command.classes for command in commands if isinstance(command, ExplainCommand))
        if classes:
            self._take(caller.name, "explanations", caller.explanations_per_minute, classes)
        else:
            self._take(caller.name, "predictions", caller.predictions_per_minute, len(commands))

    def _take(self, name: str, kind: str, per_minute: float | None, amount: int) -> None:
        if per_minute is None:
            return
        capacity = max(1.0, per_minute)
        if amount > capacity:
            raise QuotaError(f"{amount} {kind} at once are more than the client's quota ever allows")
        now = self._clock()
        bucket = self._buckets.setdefault((name, kind), _Bucket(capacity, now))
        # The capacity is applied here, so that a changed clients file counts at once.
        bucket.level = min(capacity, bucket.level + (now - bucket.at) * per_minute / 60)
        bucket.at = now
        if bucket.level < amount:
            wait = (amount - bucket.level) * 60 / per_minute
            raise QuotaError(f"the client's quota of {kind} is used up", retry_after=math.ceil(wait * 1000) / 1000)
        bucket.level -= amount
