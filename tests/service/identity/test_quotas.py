"""Quotas: how much, how soon again, and what counts."""

from pathlib import Path

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from service.commands import PredictCommand
from service.errors import QuotaError
from service.identity.caller import Caller, Precision, Role
from service.identity.quotas import Quotas
from tests.service.fakes import MODEL, Front, front
from tests.service.identity.people import bearer, entry, write_clients
from tests.service.test_front import IMAGE, details, explain, refused

PREDICTION = PredictCommand(MODEL, IMAGE, 1)


def caller(predictions: float | None, name: str = "a") -> Caller:
    return Caller(name, frozenset(Role), Precision.FULL, predictions_per_minute=predictions)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_quota_is_there_at_once_and_comes_back_evenly() -> None:
    """Of 30 a minute, 30 go at once; then one every two seconds, never more than 30."""
    clock = Clock()
    quotas = Quotas(clock)
    for _ in range(30):
        quotas.charge(caller(30), PREDICTION)
    with pytest.raises(QuotaError) as caught:
        quotas.charge(caller(30), PREDICTION)
    assert caught.value.retry_after == 2.0
    clock.now += 1.5
    with pytest.raises(QuotaError) as caught:
        quotas.charge(caller(30), PREDICTION)
    assert caught.value.retry_after == 0.5
    clock.now += 0.5
    quotas.charge(caller(30), PREDICTION)
    clock.now += 3600
    for _ in range(30):
        quotas.charge(caller(30), PREDICTION)
    with pytest.raises(QuotaError):
        quotas.charge(caller(30), PREDICTION)


def test_one_clients_quota_is_not_anothers_and_none_is_no_limit() -> None:
    """Buckets are each client's own; a client without a quota has none to use up."""
    quotas = Quotas(Clock())
    quotas.charge(caller(1), PREDICTION)
    quotas.charge(caller(1, "b"), PREDICTION)
    with pytest.raises(QuotaError):
        quotas.charge(caller(1), PREDICTION)
    for _ in range(1000):
        quotas.charge(caller(None, "c"), PREDICTION)


def test_less_than_one_a_minute_is_one_now_and_then() -> None:
    """Half a prediction a minute: one at once, the next after two minutes."""
    clock = Clock()
    quotas = Quotas(clock)
    quotas.charge(caller(0.5), PREDICTION)
    with pytest.raises(QuotaError) as caught:
        quotas.charge(caller(0.5), PREDICTION)
    assert caught.value.retry_after == 120.0


def test_a_smaller_quota_counts_from_its_first_call() -> None:
    """What a client had saved under the old clients file is cut to the new quota."""
    quotas = Quotas(Clock())
    quotas.charge(caller(100), PREDICTION)
    quotas.charge(caller(2), PREDICTION)
    quotas.charge(caller(2), PREDICTION)
    with pytest.raises(QuotaError):
        quotas.charge(caller(2), PREDICTION)


async def predict(service: Front) -> api.PredictResponse:
    return await service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE), metadata=bearer("a"))


async def test_each_explained_class_counts_and_predictions_have_their_own(tmp_path: Path) -> None:
    """Three explanations a minute: two classes and one more; a refusal says when, and predictions go on."""
    path = write_clients(
        tmp_path / "clients.toml", entry("a", "explain", explanations_per_minute=3, predictions_per_minute=1)
    )
    two = api.Targets(classes=api.ClassList(classes=[api.ClassReference(index=index) for index in (0, 1)]))
    async with front(clients_file=path) as service:
        await service.stub.Explain(explain(targets=two), metadata=bearer("a"))
        error = await refused(service.stub.Explain(explain(targets=two), metadata=bearer("a")))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["ErrorInfo"].reason == "QUOTA_EXCEEDED"  # type: ignore[attr-defined]
        assert details(error)["RetryInfo"].retry_delay.ToMilliseconds() == 20_000  # type: ignore[attr-defined]
        assert len(service.worker.requests) == 1
        await service.stub.Explain(explain(), metadata=bearer("a"))  # the refusal took nothing
        await predict(service)
        with pytest.raises(grpc.aio.AioRpcError, match="quota of predictions"):
            await predict(service)
        service.now += 20
        await service.stub.Explain(explain(targets=api.Targets(top_k=1)), metadata=bearer("a"))


async def test_a_used_up_quota_is_not_counted_as_want_of_room(tmp_path: Path) -> None:
    """Alerts look for RESOURCE_EXHAUSTED in the metrics: a greedy client must not wake anybody."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", predictions_per_minute=1))
    async with front(clients_file=path) as service:
        await predict(service)
        with pytest.raises(grpc.aio.AioRpcError):
            await predict(service)
        value = service.metrics.registry.get_sample_value
        labels = {"rpc": "Predict", "model": MODEL, "method": ""}
        assert value("whylight_requests_total", {**labels, "code": "QUOTA_EXCEEDED"}) == 1
        assert value("whylight_requests_total", {**labels, "code": "RESOURCE_EXHAUSTED"}) is None
        client = {"client": "a", "rpc": "Predict", "code": "QUOTA_EXCEEDED"}
        assert value("whylight_client_requests_total", client) == 1


async def test_more_than_the_quota_ever_allows_is_refused_without_a_retry(tmp_path: Path) -> None:
    """Five classes of a quota of three: waiting would not help, so no RetryInfo promises that."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", explanations_per_minute=3))
    async with front(clients_file=path) as service:
        request = explain(targets=api.Targets(top_k=5))
        error = await refused(service.stub.Explain(request, metadata=bearer("a")))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "RetryInfo" not in details(error)


async def test_an_unacceptable_request_takes_nothing(tmp_path: Path) -> None:
    """A request that is refused for its fields leaves the quota as it is."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", explanations_per_minute=1))
    async with front(clients_file=path) as service:
        error = await refused(service.stub.Explain(explain(top_k=0), metadata=bearer("a")))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        await service.stub.Explain(explain(), metadata=bearer("a"))
