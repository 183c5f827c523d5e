"""The reliability harness sees what becomes of jobs."""

import asyncio
import time

import pytest

from benchmarks.reliability import jobs
from benchmarks.reliability.jobs import JobAccount, JobLoad
from benchmarks.reliability.questions import Question
from protos.explain.v1 import explanation_service_pb2 as api
from service.errors import InternalError
from tests.service.fakes import Front, front
from tests.service.jobs.asking import create, delete
from tests.service.test_front import explain

LOST, DOUBLED = "one is deleted", "one more is made"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PAUSE", 0.01)


async def run(service: Front, what: str = "", log: str = "", answer: api.ExplainResponse | None = None) -> JobAccount:
    """Some jobs, with something that goes wrong, and what the harness says of them."""
    load = JobLoad(service.address, [Question("q", explain(), answer=answer)])
    async with load.running():
        while len(load.made) < 3:
            await asyncio.sleep(0.01)
    names = [each.name for each in load.made.values()]
    if what == LOST:
        await delete(service, names[1])
    if what == DOUBLED:
        await create(service)
    return await load.settle(time.time(), lambda: log.format(names[0].removeprefix("operations/")))


async def test_jobs_that_are_answered_once_are_right() -> None:
    """Each is accepted, there, answered as Explain does, and gone afterwards."""
    async with front() as service:
        expected = await service.stub.Explain(explain())
        made = await run(service, log="x {0} ended: OK\n", answer=expected)
        assert (made.right, made.failures) == (made.accepted, 0)
        assert made.accepted >= 3
        assert (await run(service)).doubled == 0  # none is left of the first run


async def test_what_goes_wrong_with_jobs_is_seen() -> None:
    """A lost job, one that nobody asked for, one that ended twice, and one with another answer."""
    async with front() as service:
        assert (await run(service, LOST)).lost == 1
        assert (await run(service, DOUBLED)).doubled == 1
        assert (await run(service)).doubled == 0  # the one too many is of before this run
    async with front() as service:
        assert (await run(service, log="x {0} ended: OK\n" * 2)).doubled == 1
        made = await run(service, answer=api.ExplainResponse())
        assert (made.wrong, made.failures) == (made.accepted, made.accepted)
        service.worker.error = InternalError("x")
        made = await run(service)
        assert (made.failed.total(), made.failures) == (made.accepted, 0)
