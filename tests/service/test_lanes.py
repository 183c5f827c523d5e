"""Predictions, fast maps and slow maps have workers, queues and room of their own."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from model_store.lanes import Lane, registration
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service.costs import LONGEST_BELIEF, default_kind
from service.torchserve.client import ModelWorkers
from tests.service.fakes import LABELS, MODEL, Front, front, prediction
from tests.service.test_front import IMAGE, details, explain, refused

ALL = (Lane.FAST, Lane.SLOW)
RISE = method_pb2.Method(rise=method_pb2.Rise())
FAST, SLOW = (registration(MODEL, lane) for lane in ALL)
MANY = api.Targets(top_k=6)


def predict() -> api.PredictRequest:
    return api.PredictRequest(model=MODEL, image=IMAGE)


def quality(*metrics: str, compare_with: method_pb2.Method | None = None) -> quality_pb2.QualityOptions:
    choices = [quality_pb2.MetricChoice(name=name) for name in metrics]
    return quality_pb2.QualityOptions(metrics=choices, compare_with=compare_with)


def taking(seconds: float) -> object:
    """Answers of a worker that says it took so long."""

    def answer(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
        response = prediction(request)
        response.image.compute.FromMilliseconds(int(seconds * 1000))
        return response

    return answer


def value(service: Front, name: str, lane: str, **labels: str) -> float | None:
    return service.metrics.registry.get_sample_value(name, {"model": MODEL, "lane": lane, **labels})


async def waiting(service: Front, lane: str, count: int) -> None:
    while value(service, "whylight_queue_length", lane) != count:
        await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, FAST),
        ({"quality": quality("average_drop")}, FAST),
        ({"method": RISE}, SLOW),
        ({"quality": quality("insertion")}, SLOW),
        ({"quality": quality("rank_correlation", compare_with=RISE)}, SLOW),
        ({"targets": MANY}, SLOW),
        ({"targets": api.Targets(top_k=5)}, FAST),
    ],
    ids=["fast", "cheap-figure", "slow", "dear-figure", "slow-second", "six-classes", "five-classes"],
)
async def test_a_request_takes_the_slowest_lane_of_what_it_asks_for(fields: dict[str, object], expected: str) -> None:
    """By what the worker says of the methods and metrics."""
    async with front(lanes=ALL) as service:
        await service.stub.Explain(explain(**fields))
        await service.stub.Predict(predict())
        assert service.worker.asked == [expected, MODEL]


@pytest.mark.parametrize(
    ("lanes", "expected"), [((), [MODEL, MODEL]), ((Lane.FAST,), [FAST, FAST]), ((Lane.SLOW,), [MODEL, SLOW])]
)
@pytest.mark.parametrize("discover", [True, False])
async def test_a_lane_without_workers_of_its_own_shares(
    lanes: tuple[Lane, ...], expected: list[str], discover: bool
) -> None:
    """Those of the next quicker lane: by the manifest, or as found in a TorchServe that somebody else runs."""
    async with front(lanes=() if discover else lanes) as service:
        service.worker.add_lanes(*lanes)
        service.monitor = service.make_monitor(discover=discover)
        await service.monitor.look()
        await service.stub.Explain(explain())
        await service.stub.Explain(explain(method=RISE))
        assert service.worker.asked == expected
        assert [model.name for model in service.catalog] == [MODEL]
        listed = (await service.stub.ListMethods(api.ListMethodsRequest())).methods
        (rise,) = [method for method in listed if method.name == "rise"]
        assert rise.lane == types_pb2.LANE_SLOW
        lane = {MODEL: types_pb2.LANE_PREDICT, FAST: types_pb2.LANE_FAST, SLOW: types_pb2.LANE_SLOW}[expected[1]]
        assert [(cost.model, cost.lane) for cost in rise.expected_costs] == [(MODEL, lane)]


async def test_slow_maps_hold_nobody_up() -> None:
    """While the slow lane is full, predictions and fast maps are answered, and one more slow map is refused."""
    async with front(lanes=ALL, slow_queue_size=1) as service:
        service.worker.gates[SLOW] = asyncio.Event()
        slow = [asyncio.ensure_future(service.stub.Explain(explain(method=RISE))) for _ in range(2)]
        await waiting(service, "slow", 1)
        for _ in range(3):
            await service.stub.Predict(predict())
            await service.stub.Explain(explain())
        error = await refused(service.stub.Explain(explain(method=RISE)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["ErrorInfo"].reason == "QUEUE_FULL"  # type: ignore[attr-defined]
        assert value(service, "whylight_rejected_total", "slow", reason="QUEUE_FULL") == 1
        assert value(service, "whylight_rejected_total", "predict", reason="QUEUE_FULL") == 0
        assert value(service, "whylight_in_flight", "slow") == 1
        service.worker.gates[SLOW].set()
        answers = await asyncio.gather(*slow)
        assert all(answer.predictions for answer in answers)


async def test_as_many_slow_maps_at_once_as_there_are_workers() -> None:
    """More workers than `slow_in_flight` are not left idle."""
    async with front(lanes=ALL) as service:
        service.worker.workers[SLOW] = ModelWorkers(SLOW, ready=3, total=3, versions=("1.0",))
        await service.monitor.look()
        service.worker.gates[SLOW] = asyncio.Event()
        calls = [asyncio.ensure_future(service.stub.Explain(explain(method=RISE))) for _ in range(4)]
        await waiting(service, "slow", 1)
        assert len(service.worker.asked) == 3
        service.worker.gates[SLOW].set()
        await asyncio.gather(*calls)


async def test_a_client_that_goes_away_leaves_the_queue() -> None:
    """Its place goes to the next one, and its work is never sent."""
    async with front(lanes=ALL) as service:
        service.worker.gates[SLOW] = asyncio.Event()
        first = asyncio.ensure_future(_call(service))
        while not service.worker.requests:  # the calls may arrive in any order, and this one must have the place
            await asyncio.sleep(0.005)
        second, third = (asyncio.ensure_future(_call(service)) for _ in range(2))
        await waiting(service, "slow", 2)
        second.cancel()
        await waiting(service, "slow", 1)
        service.worker.gates[SLOW].set()
        await asyncio.gather(first, third)
        assert len(service.worker.requests) == 2
        assert value(service, "whylight_queue_length", "slow") == value(service, "whylight_in_flight", "slow") == 0


async def _call(service: Front) -> api.ExplainResponse:
    return await service.stub.Explain(explain(method=RISE))


async def test_a_dead_slow_lane_harms_only_slow_maps() -> None:
    """They get UNAVAILABLE; the rest goes on, health says SERVING but for that lane, and GetModel says DEGRADED."""
    async with front(lanes=ALL) as service:
        assert service.monitor.all_ready.is_set()
        service.worker.add_lanes(Lane.SLOW, ready=0)
        await service.monitor.look()
        await service.stub.Predict(predict())
        await service.stub.Explain(explain())
        error = await refused(service.stub.Explain(explain(method=RISE)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "RetryInfo" in details(error)
        model = (await service.stub.GetModel(api.GetModelRequest(model=MODEL))).model
        assert model.state == types_pb2.MODEL_STATE_DEGRADED
        health = health_pb2_grpc.HealthStub(service.channel)
        served = {}
        for name in ("", f"models/{MODEL}", f"models/{MODEL}/fast", f"models/{MODEL}/slow"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            served[name] = answer.status == health_pb2.HealthCheckResponse.SERVING
        assert list(served.values()) == [True, True, True, False]
        assert not service.monitor.all_ready.is_set()
        assert [value(service, "whylight_ready_workers", lane) for lane in Lane] == [1, 1, 0]


async def test_an_expected_cost_is_measured() -> None:
    """Absent before the first map by the defaults; other parameters and more classes don't touch it."""
    async with front(lanes=ALL) as service:
        assert await _listed(service) is None
        service.worker.answer = taking(9.0)
        await service.stub.Explain(explain(method=method_pb2.Method(rise=method_pb2.Rise(samples=5))))
        await service.stub.Explain(explain(method=RISE, targets=api.Targets(top_k=2)))
        assert await _listed(service) is None
        service.worker.answer = taking(3.0)
        await service.stub.Explain(explain(method=RISE))
        assert await _listed(service) == pytest.approx(3.0)
        service.worker.answer = taking(8.0)
        await service.stub.Explain(explain(method=RISE))
        assert await _listed(service) == pytest.approx(4.0)


async def _listed(service: Front) -> float | None:
    methods = (await service.stub.ListMethods(api.ListMethodsRequest(model=MODEL))).methods
    (cost,) = next(method.expected_costs for method in methods if method.name == "rise")
    return cost.seconds if cost.HasField("seconds") else None


async def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    """With RetryInfo, and before any work; the same request with a longer deadline is let in."""
    async with front(lanes=ALL) as service:
        service.worker.answer = taking(20.0)
        await service.stub.Explain(explain(method=RISE), timeout=1)  # nothing is known yet
        error = await refused(service.stub.Explain(explain(method=RISE), timeout=9))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["ErrorInfo"].reason == "DEADLINE_TOO_SHORT"  # type: ignore[attr-defined]
        assert details(error)["RetryInfo"].retry_delay.ToMilliseconds() > 0  # type: ignore[attr-defined]
        assert value(service, "whylight_rejected_total", "slow", reason="DEADLINE_TOO_SHORT") == 1
        await service.stub.Explain(explain(method=RISE), timeout=11)
        await service.stub.Explain(explain(), timeout=9)
        assert len(service.worker.asked) == 3


async def test_the_queue_ahead_counts() -> None:
    """What alone would be in time is refused behind work that takes too long; the delay says for how long."""
    async with front(lanes=ALL) as service:
        service.worker.answer = taking(30.0)
        await service.stub.Explain(explain(method=RISE))
        service.worker.gates[SLOW] = asyncio.Event()
        ahead = [asyncio.ensure_future(service.stub.Explain(explain(method=RISE), timeout=300)) for _ in range(2)]
        await waiting(service, "slow", 1)
        error = await refused(service.stub.Explain(explain(method=RISE), timeout=20))
        assert details(error)["ErrorInfo"].reason == "DEADLINE_TOO_SHORT"  # type: ignore[attr-defined]
        delay = details(error)["RetryInfo"].retry_delay.ToMilliseconds()  # type: ignore[attr-defined]
        assert 23_000 < delay < 26_000  # half of the 90 s that are expected, less the 20 s that there are
        service.worker.gates[SLOW].set()
        await asyncio.gather(*ahead)


async def test_a_wrong_expectation_never_locks_out() -> None:
    """One that nobody has corrected for a while lets the next request try, which corrects it."""
    now = [0.0]
    async with front(lanes=ALL) as service:
        service.costs._clock = lambda: now[0]
        service.costs.learn(default_kind(MODEL, "rise"), 10_000.0)
        error = await refused(service.stub.Explain(explain(method=RISE), timeout=5))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        now[0] = LONGEST_BELIEF + 1
        await service.stub.Explain(explain(method=RISE), timeout=5)
        assert len(service.worker.asked) == 1


async def test_a_worker_that_gives_up_is_remembered() -> None:
    """What was not done within a deadline is not tried again with a much shorter one."""
    async with front(lanes=ALL) as service:
        late = worker_pb2.WorkResponse(status=worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED, message="too late")
        service.worker.answer = lambda _: late
        assert service.costs.expected(default_kind(MODEL, "rise")) is None
        await refused(service.stub.Explain(explain(method=RISE), timeout=5))
        assert service.costs.expected(default_kind(MODEL, "rise")) is not None


async def test_no_deadline_is_longer_than_the_longest() -> None:
    """TorchServe leaves a slow worker only so long: the worker is told to give up before."""
    async with front(lanes=ALL, longest_timeout=7) as service:
        await service.stub.Explain(explain(method=RISE), timeout=3000)
        await service.stub.Predict(predict(), timeout=3)
        slow, quick = (request.deadline.ToSeconds() for request in service.worker.requests)
        assert 2 <= slow - quick <= 6


def test_labels_suffice() -> None:
    """The model of these tests has fewer classes than the fast lane takes: `top_k` is not bound by them."""
    assert len(LABELS) < MANY.top_k
