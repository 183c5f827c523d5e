"""Identical requests that come at once are computed once, and none of them depends on the others."""

import asyncio

import pytest

from protos.worker.v1 import worker_pb2
from service.cache import flights, work
from service.errors import DeadlineError, InternalError, InvalidRequestError
from service.observation import CacheOutcome
from tests.service.cache.counted import STAGES, Setup, asking, explain, until


def closed() -> Setup:
    """Work that does not end before its gate is opened."""
    setup = Setup()
    setup.inner.gate.clear()
    return setup


async def joined(setup: Setup, count: int) -> None:
    """Wait until so many requests wait, for computations that have begun."""
    flights = setup.work._flights._flights
    await until(lambda: sum(flight.waiting for flight in flights.values()) == count)
    await until(lambda: len(setup.inner.commands) >= len(flights))


async def test_64_identical_requests_are_one_computation() -> None:
    """All get the same answer; only the first has the worker's times."""
    setup = closed()
    tasks = [setup.begin(request_id=f"id-{number}") for number in range(64)]
    await joined(setup, 64)
    setup.inner.gate.set()
    answers = [await task for task in tasks]
    assert len(setup.inner.commands) == 1
    assert {result.predictions[0].label for result, _ in answers} == {"number 1"}
    assert [seen.cache.outcome for _, seen in answers] == [CacheOutcome.MISS] + [CacheOutcome.SHARED] * 63
    assert [seen.stages for _, seen in answers] == [STAGES] + [{}] * 63
    assert (setup.outcome("miss"), setup.outcome("shared")) == (1, 63)
    answers[1][0].predictions[0].label = "changed"
    assert answers[2][0].predictions[0].label == "number 1"


async def test_clients_do_not_share() -> None:
    """Not even where they ask for the same at the same time."""
    setup = closed()
    tasks = [setup.begin(client=client) for client in ("viewer", "auditor")]
    await joined(setup, 2)
    setup.inner.gate.set()
    outcomes = [(await task)[1].cache.outcome for task in tasks]
    assert outcomes == [CacheOutcome.MISS] * 2
    assert len(setup.inner.commands) == 2


async def test_no_cache_does_not_share() -> None:
    """It is computed for one request alone."""
    setup = closed()
    tasks = [setup.begin(explain(no_cache=no_cache)) for no_cache in (False, True, True)]
    await until(lambda: len(setup.inner.commands) == 3)
    setup.inner.gate.set()
    await asyncio.gather(*tasks)


async def test_the_first_one_leaves_and_the_others_are_answered() -> None:
    """The computation goes on for those who still wait, and is not begun again."""
    setup = closed()
    first, second = setup.begin(), setup.begin()
    await joined(setup, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    setup.inner.gate.set()
    result, seen = await second
    assert result.predictions
    assert seen.cache.outcome is CacheOutcome.SHARED
    assert (len(setup.inner.commands), setup.inner.cancelled) == (1, 0)


async def test_when_everybody_leaves_the_work_stops() -> None:
    """It is cancelled, and the next request begins anew instead of joining it."""
    setup = closed()
    tasks = [setup.begin() for _ in range(3)]
    await joined(setup, 3)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    late = setup.begin()
    await until(lambda: setup.inner.cancelled == 1)
    setup.inner.gate.set()
    assert (await late)[1].cache.outcome is CacheOutcome.MISS
    assert len(setup.inner.commands) == 2


async def test_the_first_ones_deadline_is_not_the_others() -> None:
    """Who has more time gets an answer of its own computation; who has not, the error at its own time."""
    setup = closed()
    first, short, long = setup.begin(timeout=0.1), setup.begin(timeout=0.05), setup.begin(timeout=30.0)
    await joined(setup, 3)
    for task in (short, first):
        with pytest.raises(DeadlineError):
            await task
    await until(lambda: len(setup.inner.commands) == 2)
    setup.inner.gate.set()
    assert (await long)[1].cache.outcome is CacheOutcome.MISS


async def test_a_partial_answer_is_no_answer_for_who_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one's time was over; the other's was not."""
    setup = closed()
    first, short, long = setup.begin(timeout=20.0), setup.begin(timeout=10.0), setup.begin(timeout=30.0)
    await joined(setup, 3)
    for module in (flights, work):
        monkeypatch.setattr(module, "is_partial", lambda result: result.predictions[0].label == "number 1")
    setup.inner.gate.set()
    labels = [(await task)[0].predictions[0].label for task in (first, short)]
    assert labels == ["number 1"] * 2
    assert (await long)[0].predictions[0].label == "number 2"


async def test_an_error_goes_to_all() -> None:
    """What is wrong with a request is wrong with all that are the same."""
    setup = closed()
    tasks = [setup.begin() for _ in range(3)]
    await joined(setup, 3)
    setup.inner.error = InvalidRequestError("unacceptable", ())
    setup.inner.gate.set()
    for task in tasks:
        with pytest.raises(InvalidRequestError):
            await task
    assert len(setup.inner.commands) == 1


async def test_nobody_learns_anothers_request_id() -> None:
    """A fault names each request by its own id."""
    setup = closed()
    tasks = {name: setup.begin(request_id=name) for name in ("first-id", "second-id")}
    await joined(setup, 2)
    setup.inner.error = InternalError("internal error, request first-id")
    setup.inner.gate.set()
    for name, task in tasks.items():
        with pytest.raises(InternalError) as caught:
            await task
        assert caught.value.message == f"internal error, request {name}"


class Notes:
    """Writes down what it is told."""

    maps, interval = True, 0.5

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def progress(self, progress: worker_pb2.Progress) -> None:
        """As `Watch.progress`."""
        self.told.append((progress.request_id, progress.step))


async def test_everybody_who_watches_is_told_of_the_steps() -> None:
    """Under their own request id, from when they join until they leave; who does not watch does not join them."""
    setup = closed()
    early, late = Notes(), Notes()
    first = setup.begin(watch=early, request_id="early")
    await joined(setup, 1)
    told = setup.inner.watches[0]
    assert told is not None
    assert (getattr(told, "maps", None), getattr(told, "interval", None)) == (True, 0.5)
    told.progress(worker_pb2.Progress(request_id="early", step=1))
    second = setup.begin(watch=late, request_id="late")
    third = setup.begin(request_id="other")
    await joined(setup, 3)
    told.progress(worker_pb2.Progress(request_id="early", step=2))
    first.cancel()
    await asyncio.wait([first])
    told.progress(worker_pb2.Progress(request_id="early", step=3))
    setup.inner.gate.set()
    await asyncio.gather(second, third)
    assert early.told == [("early", 1), ("early", 2)]
    assert late.told == [("late", 2), ("late", 3)]
    assert len(setup.inner.commands) == 2
    assert setup.inner.watches[1] is None


async def test_the_computation_records_nothing_of_a_request_that_has_left() -> None:
    """What a request observed is its own: the computation goes on with another one."""
    setup = closed()
    with asking("viewer", "first") as seen:
        first = asyncio.create_task(setup.work.run(explain(), asyncio.get_running_loop().time() + 30))
    second = setup.begin()
    await joined(setup, 2)
    first.cancel()
    await asyncio.wait([first])
    recorded = dict(seen.stages)
    setup.inner.gate.set()
    await second
    assert seen.stages == recorded
    assert seen.cache is None
    assert setup.outcome("miss") is None
