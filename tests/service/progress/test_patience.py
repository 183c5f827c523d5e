"""How long the service waits for work, and what becomes of work for which it waits no longer."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from handlers.line import Line
from protos.explain.v1 import explanation_service_pb2, method_pb2, quality_pb2
from protos.worker.v1 import worker_pb2
from service.commands import ExplainCommand
from service.errors import DeadlineError, WorkerUnavailableError
from service.metrics import Metrics
from service.progress.hub import Hub
from service.progress.patience import Errand, Patience
from tests.service.progress.test_hub import Steps

COMMAND = ExplainCommand(
    "tiny", b"", 1, method_pb2.Method(rise=method_pb2.Rise()), (), 1,
    explanation_service_pb2.OutputOptions(), quality_pb2.QualityOptions(),
)  # fmt: skip
RESULT = worker_pb2.ImageResult(target_layer="here")


class Work:
    """Work that begins at once, unless told otherwise, and ends when it is let."""

    def __init__(self, begins: bool = True, error: Exception | None = None) -> None:
        self.free = asyncio.Event()
        self.ended = asyncio.Event()
        self._begins = begins
        self._error = error

    async def carry(self, errand: Errand) -> worker_pb2.ImageResult:
        errand.begun = self._begins
        try:
            await self.free.wait()
            if self._error is not None:
                raise self._error
            return RESULT
        finally:
            self.ended.set()


def count(metrics: Metrics) -> float:
    labels = {"model": "tiny", "method": "rise"}
    return metrics.registry.get_sample_value("whylight_cancelled_work_seconds_count", labels) or 0.0


async def cancelled(patience: Patience, work: Work) -> None:
    """Wait for the work in a task that is then cancelled."""
    waiting = asyncio.create_task(patience.wait(work.carry, COMMAND, time.monotonic() + 60, None))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def late(patience: Patience, work: Work) -> None:
    """Wait for the work no longer than until a deadline."""
    with pytest.raises(DeadlineError):
        await patience.wait(work.carry, COMMAND, time.monotonic() + 0.02, None)


async def test_what_work_gives_is_given() -> None:
    """Its result, or its error; nothing is measured."""
    metrics = Metrics()
    patience = Patience(Hub(), metrics)
    work, failing = Work(), Work(error=WorkerUnavailableError("gone"))
    for each in (work, failing):
        each.free.set()
    assert await patience.wait(work.carry, COMMAND, time.monotonic() + 5, None) == RESULT
    with pytest.raises(WorkerUnavailableError):
        await patience.wait(failing.carry, COMMAND, time.monotonic() + 5, None)
    assert count(metrics) == 0


@pytest.mark.parametrize("give_up", [cancelled, late])
@pytest.mark.parametrize("error", [None, WorkerUnavailableError("killed")], ids=["ends", "fails"])
async def test_work_that_was_given_up_goes_on_until_the_worker_ends(
    give_up: Callable[[Patience, Work], Awaitable[None]], error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """What it holds stays held; its seconds are measured once, however it ends."""
    metrics, work = Metrics(), Work(error=error)
    async with (patience := Patience(Hub(), metrics)).running():
        await give_up(patience, work)
        assert not work.ended.is_set()
        assert count(metrics) == 0
        work.free.set()
        await asyncio.wait_for(work.ended.wait(), 5)
        await asyncio.sleep(0)
        assert count(metrics) == 1
    assert caplog.records == []


@pytest.mark.parametrize("give_up", [cancelled, late])
async def test_what_has_not_begun_ends_at_once(give_up: Callable[[Patience, Work], Awaitable[None]]) -> None:
    """There is no worker to wait for, and nothing to measure."""
    metrics, work = Metrics(), Work(begins=False)
    await give_up(Patience(Hub(), metrics), work)
    await asyncio.wait_for(work.ended.wait(), 5)
    assert count(metrics) == 0


async def test_patience_with_a_worker_that_is_stuck_ends() -> None:
    """Its place is not lost for ever."""
    metrics, work = Metrics(), Work()
    await cancelled(Patience(Hub(), metrics, longest=0.05), work)
    await asyncio.wait_for(work.ended.wait(), 5)
    await asyncio.sleep(0)
    assert count(metrics) == 1


async def test_what_the_worker_told_before_it_answered_is_heard_before_the_answer() -> None:
    """The last step included, although it takes another way."""
    watch = Steps()

    async def carry(errand: Errand) -> worker_pb2.ImageResult:
        line = Line(errand.following)  # type: ignore[arg-type]
        line.open()
        line.tell(worker_pb2.Progress(step=1, steps=9))
        while not watch.heard:
            await asyncio.sleep(0.005)
        line.tell(worker_pb2.Progress(step=9, steps=9))
        line.close()
        return RESULT

    async with (patience := Patience(Hub(), Metrics())).running():
        await patience.wait(carry, COMMAND, time.monotonic() + 5, watch)
        assert watch.heard == [1, 9]


async def test_nothing_is_left_when_the_service_ends() -> None:
    """What was given up is not waited for."""
    work = Work()
    async with (patience := Patience(Hub(), Metrics())).running():
        await cancelled(patience, work)
    assert work.ended.is_set()
