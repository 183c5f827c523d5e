"""The models of a TorchServe that runs elsewhere: they come and go."""

from grpc_health.v1 import health_pb2, health_pb2_grpc

from model_store.lanes import Lane, registration
from service.errors import WorkerUnavailableError
from service.monitor import GONE_AFTER
from service.torchserve.client import ModelWorkers
from tests.service.fakes import Front, front
from tests.service.test_front import explain, refused


def gauges(service: Front, model: str) -> list[float | None]:
    """Ready workers for predictions and for fast maps."""
    read = service.metrics.registry.get_sample_value
    return [read("whylight_ready_workers", {"model": model, "lane": lane}) for lane in (Lane.PREDICT, Lane.FAST)]


async def health_of(service: Front, name: str) -> str:
    answer = await health_pb2_grpc.HealthStub(service.channel).Check(health_pb2.HealthCheckRequest(service=name))
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_a_model_that_vanishes_from_a_torchserve_elsewhere_is_forgotten_and_may_come_back() -> None:
    """UNAVAILABLE for some looks, then NOT_FOUND; a TorchServe that does not answer says nothing about its models."""
    async with front() as service:
        service.worker.workers["other"] = ModelWorkers("other", ready=1, total=1, versions=("1.0",))
        fast = registration("other", Lane.FAST)
        service.worker.workers[fast] = ModelWorkers(fast, ready=1, total=1, versions=("1.0",))
        service.monitor = service.make_monitor(discover=True)
        await service.monitor.look()
        assert gauges(service, "other") == [1, 1]
        states = service.worker.worker_states
        gone = {name: service.worker.workers.pop(name) for name in ("other", fast)}

        async def silent() -> dict[str, ModelWorkers]:
            raise WorkerUnavailableError("TorchServe does not answer")

        for answer, code in ((silent, "UNAVAILABLE"), (states, "UNAVAILABLE"), (states, "NOT_FOUND")):
            service.worker.worker_states = answer  # type: ignore[method-assign]
            for _ in range(GONE_AFTER - 1):
                await service.monitor.look()
            assert (await refused(service.stub.Explain(explain(model="other")))).code().name == code
        await service.stub.Explain(explain())
        assert await health_of(service, "models/other") == "NOT_SERVING"
        assert await health_of(service, "") == "SERVING"
        assert gauges(service, "other") == [None, None]
        service.worker.workers.update(gone)
        await service.monitor.look()
        await service.stub.Explain(explain(model="other"))
        assert await health_of(service, "models/other") == "SERVING"


async def test_a_model_of_others_that_comes_back_as_ours_is_taken_over() -> None:
    """What it was before it vanished is forgotten."""
    async with front() as service:
        service.worker.workers["other"] = ModelWorkers("other", ready=1, total=1, versions=("1.0",))
        service.monitor = service.make_monitor(discover=True)
        original = service.worker.send
        service.worker.send = nonsense  # type: ignore[method-assign]
        await service.monitor.look()
        assert "other" not in service.catalog
        service.worker.send = original  # type: ignore[method-assign]
        back = service.worker.workers.pop("other")
        await service.monitor.look()
        service.worker.workers["other"] = back
        await service.monitor.look()
        await service.stub.Explain(explain(model="other"))


async def nonsense(model: str, body: bytes, timeout: float) -> bytes:
    return b"\xff no message"
