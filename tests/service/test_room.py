"""First come, first served: places, the queue, and how long it is expected to take."""

import asyncio

import pytest

from service.room import Room, Visit


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def queued(room: Room, expected: float = 0.0, timeout: float = 10.0) -> tuple[Visit, "asyncio.Task[None]"]:
    """A visit that waits, and the task in which it does."""
    visit = room.ask(expected)
    assert visit.began is None
    task = asyncio.create_task(room.turn(visit, timeout))
    await asyncio.sleep(0)
    return visit, task


async def test_the_first_has_its_turn_first() -> None:
    """A place that comes free goes to whoever waited longest, also when somebody new comes just then."""
    room = Room()
    first = room.ask(0)
    second, its_turn = await queued(room)
    third, last = await queued(room)
    room.leave(first)
    assert (second.began is not None, third.began) == (True, None)
    assert room.ask(0).began is None
    await its_turn
    room.leave(second)
    await last


async def test_whoever_is_cancelled_leaves_the_queue() -> None:
    """Its place in the queue goes to the next one."""
    room = Room()
    first = room.ask(0)
    _, gone = await queued(room)
    third, its_turn = await queued(room)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert room.waiting == 1
    room.leave(first)
    await its_turn
    assert third.began is not None


@pytest.mark.parametrize("before", [True, False], ids=["cancelled-then-free", "free-then-cancelled"])
async def test_a_place_is_never_lost(before: bool) -> None:
    """A visit that is cancelled in the moment in which it would get a place passes it on."""
    room = Room()
    first = room.ask(0)
    _, gone = await queued(room)
    third, its_turn = await queued(room)
    if before:
        gone.cancel()
    room.leave(first)
    if not before:
        gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(its_turn, 1)
    room.leave(third)
    assert not room.full


async def test_whoever_waits_too_long_leaves_the_queue() -> None:
    """TimeoutError, and nobody waits any more."""
    room = Room()
    room.ask(0)
    _, its_turn = await queued(room, timeout=0.01)
    with pytest.raises(TimeoutError):
        await its_turn
    assert room.waiting == 0


async def test_the_wait_is_what_is_left_of_all_that_are_ahead() -> None:
    """Shared by the places; somebody who takes longer than expected counts as nearly done."""
    clock = Clock()
    room = Room(clock)
    room.places = 2
    assert room.wait() == 0
    room.ask(10.0)
    assert room.wait() == 0
    room.ask(4.0)
    room.ask(6.0)
    assert room.wait() == (10 + 4 + 6) / 2
    clock.now += 5
    assert room.wait() == (5 + 0 + 6) / 2


async def test_more_places_let_more_in() -> None:
    """Workers may be added while somebody waits."""
    room = Room()
    first = room.ask(0)
    _, second = await queued(room)
    _, third = await queued(room)
    room.places = 2
    room.leave(first)
    await asyncio.gather(second, third)
