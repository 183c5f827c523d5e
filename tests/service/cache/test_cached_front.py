"""Kept answers over a real channel: provenance, quotas, samples, and other clients."""

import asyncio
import hashlib
from pathlib import Path

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.sampling.policy import Policy, Rule
from tests.service.fakes import MODEL, FakeWorker, Front, description, front, prediction
from tests.service.identity.people import bearer, entry, write_clients
from tests.service.test_front import IMAGE, explain, refused

ROOM = 1_000_000


def digests(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """As the fake worker's prediction, with the digests that a real worker sends."""
    response = prediction(request)
    response.image.content_digest = hashlib.sha256(request.image.image).digest()
    response.image.weights_digest = description().model.weights_digest
    return response


def saying(worker: FakeWorker) -> FakeWorker:
    worker.answer = digests
    return worker


def outcome(response: api.ExplainResponse | api.PredictResponse) -> str:
    return types_pb2.CacheOutcome.Name(response.provenance.cache.outcome).removeprefix("CACHE_OUTCOME_")


async def test_a_kept_answer_is_the_same_but_for_what_belongs_to_the_request() -> None:
    """Request id and timings are the present request's, and the provenance says how old the answer is."""
    async with front(cache_bytes=ROOM) as service:
        saying(service.worker)
        first = await service.stub.Explain(explain(), metadata=(("x-request-id", "one"),))
        service.now = 2.5
        second = await service.stub.Explain(explain(), metadata=(("x-request-id", "two"),))
        assert (outcome(first), outcome(second)) == ("MISS", "HIT")
        assert second.provenance.request_id == "two"
        assert second.provenance.cache.age.ToMilliseconds() == 2500
        assert first.timings.HasField("compute")
        assert not second.timings.HasField("compute")
        for response in (first, second):
            for name in ("request_id", "cache"):
                response.provenance.ClearField(name)
            response.ClearField("timings")
        assert first == second
        assert len(service.worker.requests) == 1


async def test_predictions_are_kept_and_no_cache_is_heard() -> None:
    """Of both procedures."""
    async with front(cache_bytes=ROOM) as service:
        saying(service.worker)
        outcomes = []
        for no_cache in (False, False, True):
            request = api.PredictRequest(model=MODEL, image=IMAGE, no_cache=no_cache)
            outcomes.append(outcome(await service.stub.Predict(request)))
            outcomes.append(outcome(await service.stub.Explain(explain(no_cache=no_cache))))
        assert outcomes == ["MISS", "MISS", "HIT", "HIT", "BYPASS", "BYPASS"]


async def test_with_no_room_nothing_is_kept_or_said() -> None:
    """cache_bytes = 0 turns it off."""
    async with front(cache_bytes=0) as service:
        saying(service.worker)
        for _ in range(2):
            assert not (await service.stub.Explain(explain())).provenance.HasField("cache")
        assert len(service.worker.requests) == 2


async def test_a_class_is_the_same_by_label_and_by_index() -> None:
    """What the service resolves by itself makes no other request."""
    async with front(cache_bytes=ROOM) as service:
        saying(service.worker)
        for reference in (api.ClassReference(label="dog"), api.ClassReference(index=1)):
            targets = api.Targets(classes=api.ClassList(classes=[reference]))
            response = await service.stub.Explain(explain(targets=targets, top_k=5))
        assert outcome(response) == "HIT"


async def test_a_hit_costs_as_much_of_the_quota_as_a_miss(tmp_path: Path) -> None:
    """An explanation tells as much of the model, kept or not; and what one client got, another does not."""
    clients = write_clients(
        tmp_path / "clients.toml",
        entry("viewer", "explain", explanations_per_minute=2),
        entry("auditor", "admin"),
    )
    async with front(cache_bytes=ROOM, clients_file=clients) as service:
        saying(service.worker)
        outcomes = [outcome(await service.stub.Explain(explain(), metadata=bearer("viewer"))) for _ in range(2)]
        assert outcomes == ["MISS", "HIT"]
        error = await refused(service.stub.Explain(explain(), metadata=bearer("viewer")))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert outcome(await service.stub.Explain(explain(), metadata=bearer("auditor"))) == "MISS"


async def test_answers_are_kept_whole_whatever_precision_the_client_has(tmp_path: Path) -> None:
    """The first answer is rounded for its client, and so is the second: neither is rounded twice or not at all."""
    clients = write_clients(tmp_path / "clients.toml", entry("viewer", "explain", precision="coarse"))
    async with front(cache_bytes=ROOM, clients_file=clients) as service:
        saying(service.worker)
        for _ in range(2):
            response = await service.stub.Explain(explain(), metadata=bearer("viewer"))
            assert response.predictions[0].logit == 0
            assert response.provenance.precision == types_pb2.PRECISION_COARSE
        write_clients(clients, entry("viewer", "explain", precision="full"))
        async with asyncio.timeout(2):
            while response.provenance.precision != types_pb2.PRECISION_FULL:
                response = await service.stub.Explain(explain(), metadata=bearer("viewer"))
        assert outcome(response) == "HIT"
        assert response.predictions[0].logit == 2.0


async def test_requests_at_once_are_shared_and_one_that_hangs_up_harms_nobody() -> None:
    """Eight clients' calls are one piece of work, though the first of them is cancelled."""
    async with front(cache_bytes=ROOM) as service:
        saying(service.worker).gate.clear()
        calls = [service.stub.Explain(explain())]
        await _until(lambda: len(service.worker.requests) == 1)
        calls += [service.stub.Explain(explain()) for _ in range(7)]
        await _until(lambda: _waiting(service) == 8)
        calls[0].cancel()
        await _until(lambda: _waiting(service) == 7)
        service.worker.gate.set()
        assert [outcome(await call) for call in calls[1:]] == ["SHARED"] * 7
        assert len(service.worker.requests) == 1


def _waiting(service: Front) -> int:
    return sum(flight.waiting for flight in service.work._flights._flights.values())  # type: ignore[attr-defined]


async def _until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(("no_cache", "samples"), [(False, 1), (True, 3)])
async def test_a_map_is_sampled_once_however_often_it_is_answered(no_cache: bool, samples: int) -> None:
    """A hit is no new map to measure; what is computed anew is."""
    policy = Policy(rules=(Rule(share=1.0, below_confidence=1.0),))
    async with front(policy, cache_bytes=ROOM) as service:
        saying(service.worker)
        for _ in range(3):
            await service.stub.Explain(
                explain(targets=api.Targets(classes=api.ClassList(classes=[api.ClassReference(index=1)])),
                        no_cache=no_cache)
            )  # fmt: skip
        labels = {"model": MODEL, "version": "1.0", "method": "grad_cam", "outcome": "degenerate"}
        assert service.metrics.registry.get_sample_value("explain_quality_samples_total", labels) == samples
        maps = {"model": MODEL, "version": "1.0", "method": "grad_cam"}
        assert service.metrics.registry.get_sample_value("explain_quality_maps_total", maps) == 3
