"""How jobs are begun, tried again, and ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.rpc import status_pb2

from protos.explain.v1 import explanation_service_pb2 as api
from service.errors import (
    DeadlineError,
    JobCancelledError,
    OutOfMemoryError,
    ServiceError,
    StorageFullError,
    WorkerUnavailableError,
)
from service.jobs.job import Job, State
from service.jobs.runner import MOST_ATTEMPTS, Runner
from service.jobs.store import JobStore
from service.metrics import Metrics
from tests.service.jobs.test_store import job

ANSWER = api.ExplainResponse(interpretation="a map")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.005)


class Bench:
    """A runner with work that a test decides, and a clock that goes an hour on with each look."""

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self.now = 0.0
        self.store = JobStore(path, 100, most_bytes)
        self.metrics = Metrics()
        self.begun: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.outcome: Any = ANSWER
        self.runner = Runner(self.store, self.perform, self.metrics, 2, self.clock)

    def clock(self) -> float:
        self.now += 3600
        return self.now

    async def perform(self, job: Job, request: bytes, watch: object) -> api.ExplainResponse:
        self.begun.append(job.name)
        await self.gate.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome  # type: ignore[no-any-return]

    async def add(self, name: str, ttl: float = 1e9) -> None:
        await self.store.add(job(name, ttl=ttl), b"request")
        await self.runner.added()

    async def look(self, name: str) -> Job:
        found = await self.store.get("a", name)
        assert found is not None
        return found

    async def ended(self, name: str) -> SimpleNamespace:
        """The job's end, when there is one."""

        async def is_ended() -> bool:
            return (await self.look(name)).ended is not None

        await until(is_ended)
        found = await self.look(name)
        status = status_pb2.Status.FromString(found.result) if found.state is not State.SUCCEEDED else None
        return SimpleNamespace(state=found.state, attempts=found.attempts, status=status, result=found.result)


@asynccontextmanager
async def bench(path: Path | None = None, most_bytes: int = 2**20) -> AsyncIterator[Bench]:
    made = Bench(path, most_bytes)
    try:
        async with made.runner.running():
            yield made
    finally:
        made.store.close()


@pytest.mark.parametrize("error", [WorkerUnavailableError("died"), OutOfMemoryError("no memory")])
async def test_a_job_that_costs_its_worker_the_life_ends(error: ServiceError) -> None:
    """It is tried a few times, and then has the worker's error."""
    async with bench() as made:
        made.outcome = error
        await made.add("1")
        ended = await made.ended("1")
        assert (ended.state, ended.attempts, len(made.begun)) == (State.FAILED, MOST_ATTEMPTS, MOST_ATTEMPTS)
        assert ended.status.message == error.message


async def test_a_job_that_costs_the_service_the_life_ends(tmp_path: Path) -> None:
    """As many attempts without an end as may be: it is not begun again, and the next one is."""
    store = JobStore(tmp_path / "jobs.sqlite", 100, 2**20)
    await store.add(job("1", ttl=1e9), b"request")
    for _ in range(MOST_ATTEMPTS):
        await store.requeue(counts=True)
        assert await store.claim(1.0) is not None
    store.close()
    async with bench(tmp_path / "jobs.sqlite") as made:
        await made.add("2")
        assert (await made.ended("1")).status.message.startswith("the service ended several times")
        assert (await made.ended("2")).state is State.SUCCEEDED
        assert made.begun == ["2"]


async def test_a_fault_of_ours_says_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Neither to the client nor to the log, but for the place."""
    async with bench() as made:
        made.outcome = ValueError("Jane Doe")
        await made.add("1")
        ended = await made.ended("1")
        assert ended.status.message == "internal error, request 1"
        assert "ValueError" in caplog.text
        assert "Jane" not in caplog.text


@pytest.mark.parametrize("running", [True, False])
async def test_a_job_whose_time_is_over_is_given_up(running: bool) -> None:
    """Whether it waits or runs: DEADLINE_EXCEEDED, with a reason of its own."""
    async with bench() as made:
        made.gate.clear()
        for name in ("1", "2", "3"):
            await made.add(name, ttl=1e9)
        await until(lambda: asyncio.sleep(0, len(made.begun) == 2))
        name = "1" if running else "3"
        await made.runner.end(name, DeadlineError("over", reason="JOB_EXPIRED"))
        assert (await made.ended(name)).status.code == 4
        await made.add("4", ttl=1.0)
        ended = await made.ended("4")
        assert ended.status.message == "the job's time was over before it had ended"


async def test_a_result_without_room_is_an_error_and_not_lost_silently() -> None:
    """RESOURCE_EXHAUSTED in place of the result."""
    async with bench(most_bytes=100) as made:
        made.outcome = api.ExplainResponse(interpretation="x" * 200)
        await made.add("1")
        assert (await made.ended("1")).status.code == 8


async def test_a_result_waits_for_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is done once, and its result is written down as soon as that is possible."""
    async with bench() as made:
        write, refusals = made.store.finish, iter([StorageFullError("full")] * 2)

        async def finish(*arguments: Any) -> Job | None:
            for error in refusals:
                raise error
            return await write(*arguments)

        monkeypatch.setattr(made.store, "finish", finish)
        await made.add("1")
        ended = await made.ended("1")
        assert (ended.state, ended.result) == (State.SUCCEEDED, ANSWER.SerializeToString())
        assert made.begun == ["1"]
        assert next(refusals, None) is None


async def test_looking_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that cannot be read for a while stops nothing for good."""
    async with bench() as made:
        read, refusals = made.store.claim, iter([StorageFullError("full")] * 3)

        async def claim(now: float) -> Any:
            for error in refusals:
                raise error
            return await read(now)

        monkeypatch.setattr(made.store, "claim", claim)
        await made.add("1")
        assert (await made.ended("1")).state is State.SUCCEEDED


async def test_a_job_ended_early_stays_so_when_the_service_stops() -> None:
    """A cancel just before the shutdown is not forgotten, and the others wait for the next start, uncounted."""
    async with bench() as made:
        made.gate.clear()
        for name in ("1", "2"):
            await made.add(name)
        await until(lambda: asyncio.sleep(0, len(made.begun) == 2))
        await asyncio.gather(made.runner.end("1", JobCancelledError("cancelled")), made.runner.stop())
        assert (await made.look("1")).state is State.CANCELLED
        waiting = await made.look("2")
        assert (waiting.state, waiting.attempts) == (State.QUEUED, 0)


async def test_as_many_jobs_run_as_may() -> None:
    """No more than two at a time here, and all in the end."""
    async with bench() as made:
        made.gate.clear()
        for number in range(5):
            await made.add(str(number))
        await asyncio.sleep(0.1)
        assert made.begun == ["0", "1"]
        made.gate.set()
        for number in range(5):
            assert (await made.ended(str(number))).state is State.SUCCEEDED
        assert sorted(made.begun) == list("01234")
