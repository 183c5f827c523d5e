"""Who may go to the workers now, who waits, and who is refused at once."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

from model_store.lanes import Lane
from service.costs import Costs, Kind
from service.errors import DeadlineError, NoRoomError
from service.lanes import Place
from service.metrics import Metrics
from service.observation import current
from service.room import Room, Visit
from service.settings import Settings

# A request is refused when even this share of what is expected is longer than its deadline: better one that is given up
# late than one that is turned away and would have been answered.
MARGIN = 0.5
RETRY_AFTER = (0.1, 60.0)  # seconds: the shortest and the longest delay to ask for


@dataclass(frozen=True)
class Limits:
    """How much a lane of each model takes.

    Attributes:
        in_flight: requests with the workers at once, where there are not more workers than that.
        queue_size: requests that wait for one of these places.
    """

    in_flight: int
    queue_size: int


def limits(settings: Settings) -> dict[Lane, Limits]:
    """The limits of each lane."""
    return {
        Lane.PREDICT: Limits(settings.in_flight, settings.queue_size),
        Lane.FAST: Limits(settings.fast_in_flight, settings.fast_queue_size),
        Lane.SLOW: Limits(settings.slow_in_flight, settings.slow_queue_size),
    }


class Admission:
    """A bounded queue before the workers of each lane of each model, first come first served.

    Refused at once is who finds the queue full, and who would not be answered within the deadline, by what is known of
    the requests ahead and of others like it. What was never measured is never refused for that.
    """

    def __init__(self, lanes: Mapping[Lane, Limits], metrics: Metrics, costs: Costs) -> None:
        self._limits = lanes
        self._metrics = metrics
        self._costs = costs
        self._rooms: dict[tuple[str, Lane], Room] = {}
        for lane, each in lanes.items():
            metrics.queue_capacity.labels(lane).set(each.queue_size)

    @asynccontextmanager
    async def enter(self, place: Place, kind: Kind, timeout: float, *, whole: bool = True) -> AsyncIterator[None]:
        """Hold a place with some workers, for work of some kind that must be begun within `timeout` seconds.

        With `whole` it must be done by then as well; otherwise a part of it is an answer, too.

        Raises:
            NoRoomError: the queue is full, or the answer is expected too late.
            DeadlineError: no place came free in time.
        """
        room = self._rooms.setdefault((place.model, place.lane), Room())
        room.places = max(self._limits[place.lane].in_flight, place.workers)
        with current().stage("admission"):
            visit = await self._acquire(room, place, kind, timeout, whole)
        in_flight = self._metrics.in_flight.labels(place.model, place.lane)
        in_flight.inc()
        try:
            yield
        finally:
            in_flight.dec()
            room.leave(visit)

    async def _acquire(self, room: Room, place: Place, kind: Kind, timeout: float, whole: bool) -> Visit:
        wait = room.wait()
        if room.full and room.waiting >= self._limits[place.lane].queue_size:
            self._refuse(place, "QUEUE_FULL", "too many requests wait for this model", wait or None)
        expected = MARGIN * (wait + (self._costs.at_least(kind) if whole else 0.0))
        if expected > timeout:
            text = "the deadline is too short for the requests that wait and the time that such a request takes"
            self._refuse(place, "DEADLINE_TOO_SHORT", text, expected - timeout)
        visit = room.ask(self._costs.expected(kind) or 0.0)
        if visit.began is None:
            await self._turn(room, visit, place, timeout)
        return visit

    async def _turn(self, room: Room, visit: Visit, place: Place, timeout: float) -> None:
        length = self._metrics.waiting.labels(place.model, place.lane)
        length.set(room.waiting)
        try:
            await room.turn(visit, timeout)
        except TimeoutError:
            raise DeadlineError("the deadline passed while the request waited for room") from None
        finally:
            length.set(room.waiting)

    def _refuse(self, place: Place, reason: str, message: str, retry_after: float | None) -> NoReturn:
        self._metrics.rejected.labels(place.model, place.lane, reason).inc()
        shortest, longest = RETRY_AFTER
        delay = None if retry_after is None else min(max(retry_after, shortest), longest)
        raise NoRoomError(message, reason=reason, retry_after=delay)
