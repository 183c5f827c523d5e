"""How the service ends, over a real channel, on a worker that answers in process."""

import asyncio
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.explain.v1 import explanation_service_pb2 as api
from service.draining import Drain
from service.errors import DrainingError
from tests.service.fakes import MODEL, Front, front
from tests.service.test_front import details, explain, refused


def reason(error: grpc.aio.AioRpcError) -> str:
    info = details(error)["ErrorInfo"]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    return info.reason


async def explanations(service: Front, count: int) -> list[grpc.aio.UnaryUnaryCall]:
    """As many calls, all of which the service has accepted and none of which it has answered."""
    service.worker.gate.clear()
    calls = [service.stub.Explain(explain()) for _ in range(count)]
    async with asyncio.timeout(5):
        while service.drain.unanswered < count:
            await asyncio.sleep(0.001)
    return calls


async def test_what_was_accepted_is_answered_also_what_waits_for_room() -> None:
    """The end waits for requests with the worker and for those in its queue."""
    async with front(in_flight=1, queue_size=4) as service:
        calls = await explanations(service, 3)
        finishing = asyncio.create_task(service.drain.finish(5))
        await asyncio.sleep(0)
        assert len(service.worker.requests) == 1
        service.worker.gate.set()
        assert [len((await call).predictions) for call in calls] == [1, 1, 1]
        assert await finishing == 0


async def test_a_new_call_is_refused_with_a_reason_and_a_time_to_come_back() -> None:
    """UNAVAILABLE with DRAINING and RetryInfo, for every procedure of ours; health is still answered."""
    async with front() as service:
        (call,) = await explanations(service, 1)
        finishing = asyncio.create_task(service.drain.finish(5))
        await asyncio.sleep(0)
        for refusal in (
            await refused(service.stub.Predict(api.PredictRequest(model=MODEL, image=b"any"))),
            await refused(service.stub.ListModels(api.ListModelsRequest())),
        ):
            assert refusal.code() is grpc.StatusCode.UNAVAILABLE
            assert reason(refusal) == "DRAINING"
            assert "RetryInfo" in details(refusal)
        await health_pb2_grpc.HealthStub(service.channel).Check(health_pb2.HealthCheckRequest())
        assert not finishing.done()
        service.worker.gate.set()
        await call
        await finishing


async def test_what_is_not_done_in_time_is_told_so() -> None:
    """At the end of the drain time a call gets a typed error, not a broken connection."""
    async with front() as service:
        (call,) = await explanations(service, 1)
        assert await service.drain.finish(0.05) == 1
        assert reason(await refused(call)) == "DRAINING"


async def test_who_watches_the_health_does_not_keep_the_service() -> None:
    """A stream that never ends is not waited for."""
    async with front() as service:
        watching = health_pb2_grpc.HealthStub(service.channel).Watch(health_pb2.HealthCheckRequest())
        await watching.read()
        began = time.monotonic()
        assert await service.drain.finish(30) == 0
        assert time.monotonic() - began < 5


async def test_a_client_that_goes_away_is_not_waited_for() -> None:
    """A cancelled call counts as answered, and stays CANCELLED."""
    async with front() as service:
        calls = await explanations(service, 2)
        finishing = asyncio.create_task(service.drain.finish(5))
        for call in calls:
            call.cancel()
        assert await finishing == 0


async def test_the_end_comes_in_a_moment_without_calls() -> None:
    """GRPC drops, without a word, a call that comes while it stops."""
    drain = Drain()
    await drain.finish(1)
    with pytest.raises(DrainingError), drain.accepted():
        pass
    came = time.monotonic()
    await drain.finish(1)
    assert time.monotonic() - came > 0.01


async def test_nothing_to_wait_for() -> None:
    """An idle service ends at once."""
    assert await Drain().finish(30) == 0
