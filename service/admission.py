"""Who may go to the workers now, who waits, and who is refused at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import DeadlineError, DrainingError, NoRoomError
from service.metrics import Metrics
from service.observation import current


class Admission:
    """A bounded queue before each model's workers.

    At most `in_flight` requests are with a model's workers (they form its batches), at most `queue_size` more wait for
    their turn, first come first served. One more is refused: waiting longer than its deadline would help nobody.
    """

    def __init__(self, in_flight: int, queue_size: int, metrics: Metrics) -> None:
        self._in_flight = in_flight
        self._queue_size = queue_size
        self._metrics = metrics
        self._metrics.queue_capacity.set(queue_size)
        self._rooms: dict[str, asyncio.Semaphore] = {}
        self._waiting: dict[str, int] = {}
        self.draining = False

    @asynccontextmanager
    async def enter(self, model: str, timeout: float) -> AsyncIterator[None]:
        """Hold a place with the workers of `model`, waiting at most `timeout` seconds for it.

        Raises:
            DrainingError: the service is shutting down.
            NoRoomError: the queue is full.
            DeadlineError: no place came free in time.
        """
        with current().stage("admission"):
            await self._acquire(model, timeout)
        self._metrics.in_flight.labels(model).inc()
        try:
            yield
        finally:
            self._metrics.in_flight.labels(model).dec()
            self._rooms[model].release()

    async def _acquire(self, model: str, timeout: float) -> None:
        if self.draining:
            raise DrainingError("the service is shutting down")
        room = self._rooms.setdefault(model, asyncio.Semaphore(self._in_flight))
        if not room.locked():
            await room.acquire()
            return
        waiting = self._waiting.get(model, 0)
        if waiting >= self._queue_size:
            raise NoRoomError("too many requests wait for this model")
        self._count_waiting(model, +1)
        try:
            async with asyncio.timeout(timeout):
                await room.acquire()
        except TimeoutError:
            raise DeadlineError("the deadline passed while the request waited for room") from None
        finally:
            self._count_waiting(model, -1)

    def _count_waiting(self, model: str, change: int) -> None:
        self._waiting[model] = self._waiting.get(model, 0) + change
        self._metrics.waiting.labels(model).set(self._waiting[model])
