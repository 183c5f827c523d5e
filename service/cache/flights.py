"""Computations under way, which identical requests share."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from protos.worker.v1 import worker_pb2
from service import observation
from service.cache.partial import is_partial
from service.errors import DeadlineError, InternalError
from service.observation import Observation
from service.watching import Watch

Compute = Callable[[Watch | None], Awaitable[worker_pb2.ImageResult]]


Wishes = tuple[bool, float]


def wishes(watch: Watch | None) -> Wishes | None:
    """What a watch wants to be told, where it says so: of the maps so far, and the seconds between two steps."""
    return None if watch is None else (getattr(watch, "maps", False), getattr(watch, "interval", 0.0))


class _Watches:
    """Tells everybody who watches a computation of its steps, under their own request id. All have the same wishes."""

    def __init__(self, wished: Wishes | None) -> None:
        self.maps, self.interval = wished or (False, 0.0)
        self.told: list[tuple[str, Watch]] = []

    def progress(self, progress: worker_pb2.Progress) -> None:
        """As `Watch.progress`."""
        for request_id, watch in tuple(self.told):
            own = worker_pb2.Progress()
            own.CopyFrom(progress)
            own.request_id = request_id
            watch.progress(own)


@dataclass(eq=False)
class _Flight:
    """A computation.

    Attributes:
        task: computes.
        deadline: of the request that began it, as a time of time.monotonic(): the worker gives up then.
        seen: what the computation records; the answer's own observations stay apart from it.
        watches: who is told of its steps.
        waiting: how many requests wait for it.
    """

    task: "asyncio.Task[worker_pb2.ImageResult]"
    deadline: float
    seen: Observation
    watches: _Watches
    waiting: int = field(default=0)


class Flights:
    """Begins a computation for the first of several identical requests; the others wait for the same.

    It goes on for as long as anybody waits, and is cancelled when nobody does. Errors go to all who wait. Only
    the end of the first request's time is no answer for another one that has more: it begins anew.
    """

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight] = {}

    async def join(
        self, key: bytes, deadline: float, watch: Watch | None, compute: Compute
    ) -> tuple[worker_pb2.ImageResult, bool]:
        """The result by `deadline`, a time of time.monotonic(), and whether another request had begun it.

        Args:
            key: the same for identical requests only; also the wishes of their watches are.
            deadline: of this request.
            watch: is told of the steps.
            compute: begins the computation, and keeps to `deadline` by itself.

        Raises:
            ServiceError: of the computation; DeadlineError also where another request's takes too long.
        """
        while (flight := self._flights.get(key)) is not None:
            try:
                result = await self._follow(key, flight, deadline, watch)
            except DeadlineError:
                if deadline <= flight.deadline or time.monotonic() >= deadline:
                    raise
            else:
                if not is_partial(result) or deadline <= flight.deadline:
                    return result, True
        return await self._lead(key, deadline, watch, compute), False

    async def _lead(self, key: bytes, deadline: float, watch: Watch | None, compute: Compute) -> worker_pb2.ImageResult:
        seen, watches = observation.current(), _Watches(wishes(watch))
        own = dataclasses.replace(seen, stages={})
        with observation.observing(own):  # a task keeps the context that it is made in
            task = asyncio.ensure_future(compute(None if watch is None else watches))
        flight = self._flights[key] = _Flight(task, deadline, own, watches)
        task.add_done_callback(lambda _: self._forget(key, flight))
        try:
            return await self._wait(key, flight, None, watch)
        finally:
            seen.stages.update(own.stages)

    async def _follow(
        self, key: bytes, flight: _Flight, deadline: float, watch: Watch | None
    ) -> worker_pb2.ImageResult:
        try:
            shared = await self._wait(key, flight, deadline - time.monotonic(), watch)
        except InternalError as error:
            ours = observation.current().request_id
            raise InternalError(error.message.replace(flight.seen.request_id, ours), reason=error.reason) from None
        result = worker_pb2.ImageResult()
        result.CopyFrom(shared)
        return result

    async def _wait(
        self, key: bytes, flight: _Flight, timeout: float | None, watch: Watch | None
    ) -> worker_pb2.ImageResult:
        entry = None if watch is None else (observation.current().request_id, watch)
        if entry is not None:
            flight.watches.told.append(entry)
        flight.waiting += 1
        try:
            done, _ = await asyncio.wait({flight.task}, timeout=timeout)
        finally:
            flight.waiting -= 1
            if entry is not None:
                flight.watches.told.remove(entry)
            if not flight.waiting:
                self._forget(key, flight)
                flight.task.cancel()
        if not done:
            raise DeadlineError("the deadline has passed")
        return flight.task.result()

    def _forget(self, key: bytes, flight: _Flight) -> None:
        """Nobody joins it from now on."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # looked at, also where nobody waits for it any more
