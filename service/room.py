"""The places with some workers, and the queue before them."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Visit:
    """One request that has a place or waits for one.

    Attributes:
        expected: seconds that it is expected to take; 0 where nobody knows.
        began: when it got its place; None before.
    """

    expected: float
    began: float | None = None
    _turn: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Room:
    """First come, first served.

    Attributes:
        places: how many requests may be with the workers at once. May change at any time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.places = 1
        self._clock = clock
        self._inside: set[Visit] = set()
        self._waiting: deque[Visit] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the next one must wait."""
        return bool(self._waiting) or len(self._inside) >= self.places

    def wait(self) -> float:
        """Seconds after which the next one is expected to get a place. What nobody knows counts as nothing."""
        if not self.full:
            return 0.0
        now = self._clock()
        left = sum(max(0.0, visit.expected - (now - (visit.began or now))) for visit in self._inside)
        return (left + sum(visit.expected for visit in self._waiting)) / self.places

    def ask(self, expected: float) -> Visit:
        """Take a place where there is one, else the last one in the queue: then await `turn`."""
        visit = Visit(expected)
        if self.full:
            self._waiting.append(visit)
        else:
            self._begin(visit)
        return visit

    async def turn(self, visit: Visit, timeout: float) -> None:
        """Wait until it has a place. Whoever gives up, or is cancelled, leaves the queue.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await visit._turn
        except BaseException:
            if visit.began is not None:  # it got a place while it gave up
                self.leave(visit)
            elif visit in self._waiting:
                self._waiting.remove(visit)
            raise

    def leave(self, visit: Visit) -> None:
        """Give a place back."""
        self._inside.discard(visit)
        while self._waiting and len(self._inside) < self.places:
            following = self._waiting.popleft()
            if not following._turn.done():  # else it was cancelled just now
                following._turn.set_result(None)
                self._begin(following)

    def _begin(self, visit: Visit) -> None:
        visit.began = self._clock()
        self._inside.add(visit)
