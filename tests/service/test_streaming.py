"""StreamExplain over a real channel, on a worker that takes steps in process and tells of them over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from handlers.line import Line
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service.commands import StreamOptions
from service.converters.saliency import map_values
from service.errors import WorkerUnavailableError
from service.sampling.policy import Policy, Rule
from service.streaming import LatestStep
from tests.service.fakes import MODEL, Front, front
from tests.service.identity.people import bearer, entry, write_clients
from tests.service.identity.test_precision import VALUES, precise, saliency
from tests.service.test_front import IMAGE, details, explain

SLOW = method_pb2.Method(layer_cam=method_pb2.LayerCam())
ONE = api.Targets(classes=api.ClassList(classes=[api.ClassReference(index=1)]))
STEPS = 4
TICK = 0.06  # seconds: more than the shortest interval, so that each step is told


class Steps:
    """Makes the fake worker take steps over what is slow, and answer whatever it is asked otherwise."""

    def __init__(self, service: Front, steps: int = STEPS) -> None:
        self.done = 0
        self.ended = asyncio.Event()
        self.lines: list[Line] = []
        self.stubborn: float = 0.0  # seconds that it goes on after it was told to stop
        self._worker = service.worker
        self._steps = steps
        self._answer = service.worker.send
        service.worker.send = self.send  # type: ignore[method-assign]

    async def send(self, model: str, body: bytes, timeout: float) -> bytes:
        request = worker_pb2.WorkRequest.FromString(body)
        if request.image.method.WhichOneof("method") == "layer_cam" and not await self._walk(request):
            cancelled = worker_pb2.WorkResponse(status=worker_pb2.WORK_STATUS_CANCELLED, message="given up")
            return cancelled.SerializeToString()
        return await self._answer(model, body, timeout)

    async def _walk(self, request: worker_pb2.WorkRequest) -> bool:
        """Take the steps; False when the line says that nobody waits."""
        line = Line(request.following)
        self.lines.append(line)
        line.open()
        try:
            for step in range(1, self._steps + 1):
                self.done = step
                progress = worker_pb2.Progress(step=self.done, steps=self._steps, objective=0.5 * self.done)
                if line.due(maps=True):
                    progress.maps.add(target_index=1, map=saliency(VALUES))
                line.tell(progress)
                await asyncio.sleep(TICK)
                if line.hung_up:
                    await asyncio.sleep(self.stubborn)
                    return False
            return True
        finally:
            line.close()
            self.ended.set()


def stream(service: Front, metadata: object = None, timeout: float | None = None, **fields: object) -> object:
    asked = {"request": explain(method=SLOW, targets=ONE), "progress_interval": {"nanos": 50_000_000}, **fields}
    return service.stub.StreamExplain(api.StreamExplainRequest(**asked), metadata=metadata, timeout=timeout)


def kinds(events: list[api.StreamExplainResponse]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


async def everything(call: object) -> list[api.StreamExplainResponse]:
    return [event async for event in call]  # type: ignore[attr-defined]


async def refused(call: object) -> tuple[list[str], grpc.aio.AioRpcError]:
    """What came before the refusal, and the refusal."""
    events: list[api.StreamExplainResponse] = []

    async def read() -> None:
        async for event in call:  # type: ignore[attr-defined]
            events.append(event)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read()
    return kinds(events), caught.value


def value(service: Front, name: str, **labels: str) -> float | None:
    return service.metrics.registry.get_sample_value(name, labels)


@asynccontextmanager
async def slow_front(**settings: object) -> AsyncIterator[tuple[Front, Steps]]:
    async with front(**settings) as service:
        yield service, Steps(service)


async def test_the_prediction_the_fast_map_the_steps_and_the_result_come_in_this_order() -> None:
    """Each once, but for the steps, which count up to the last with their objective; the result is Explain's."""
    async with slow_front() as (service, _):
        events = await everything(stream(service))
        unary = await service.stub.Explain(explain(method=SLOW, targets=ONE))
    assert kinds(events) == ["prediction", "preview", *["progress"] * STEPS, "result"]
    prediction, preview, *_, result = events
    assert prediction.prediction.predictions[0].label == "dog"
    assert preview.preview.provenance.method.WhichOneof("method") == "grad_cam"
    assert [item.target.index for item in preview.preview.explanations] == [1]
    steps = [event.progress for event in events[2:-1]]
    assert [(each.step, each.steps, each.objective) for each in steps] == [
        (step, STEPS, 0.5 * step) for step in range(1, STEPS + 1)
    ]
    assert not any(each.maps for each in steps)
    for response in (result.result, unary):
        response.ClearField("timings")
        response.provenance.ClearField("request_id")
    assert result.result == unary
    assert result.result.provenance.method.WhichOneof("method") == "layer_cam"


async def test_a_worker_that_answers_in_no_time_changes_nothing_of_the_order() -> None:
    """Also where the result is there before the prediction; a preview that comes after the result is left out."""
    async with front() as service:
        answer, late = service.worker.send, asyncio.Event()

        async def send(model: str, body: bytes, timeout: float) -> bytes:
            if worker_pb2.WorkRequest.FromString(body).image.method.WhichOneof("method") != "layer_cam":
                await late.wait()
            return await answer(model, body, timeout)

        service.worker.send = send  # type: ignore[method-assign]
        call = stream(service)
        reading = asyncio.ensure_future(everything(call))
        await asyncio.sleep(0.05)
        assert not reading.done()
        late.set()
        events = await reading
        assert kinds(events) in (["prediction", "result"], ["prediction", "preview", "result"])


@pytest.mark.parametrize(
    "fields", [{"preview": False}, {"request": explain(targets=ONE)}], ids=["not wanted", "asked for anyway"]
)
async def test_there_is_no_preview_where_it_would_say_nothing(fields: dict[str, object]) -> None:
    """Where the client wants none, and where Grad-CAM is the method."""
    async with slow_front() as (service, _):
        events = await everything(stream(service, **fields))
        assert [kind for kind in kinds(events) if kind != "progress"] == ["prediction", "result"]
        assert len(service.worker.requests) == 2


async def test_a_preview_that_fails_is_left_out() -> None:
    """The rest comes as if it had not been asked for."""
    async with slow_front() as (service, _):
        answer = service.worker.answer

        def fussy(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
            if request.image.method.WhichOneof("method") == "grad_cam":
                return worker_pb2.WorkResponse(status=worker_pb2.WORK_STATUS_RESOURCE_EXHAUSTED)
            return answer(request)

        service.worker.answer = fussy
        assert kinds(await everything(stream(service))) == ["prediction", *["progress"] * STEPS, "result"]


async def test_maps_so_far_come_where_they_are_asked_for() -> None:
    """With the class that each is of."""
    async with slow_front() as (service, _):
        events = await everything(stream(service, progress_maps=True))
        first = next(event.progress for event in events if event.HasField("progress"))
        assert [each.target_index for each in first.maps] == [1]
        assert list(map_values(first.maps[0].map)) == pytest.approx(VALUES)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def first_step(call: object) -> None:
    async for event in call:  # type: ignore[attr-defined]
        if event.HasField("progress"):
            return


async def test_a_client_that_goes_away_stops_the_work_within_a_step() -> None:
    """Its place is free again, the worker's seconds after the cancel are measured, and the call counts once."""
    async with front(in_flight=3) as service:
        steps = Steps(service, steps=1000)
        call = stream(service)
        await first_step(call)
        at = steps.done
        call.cancel()  # type: ignore[attr-defined]
        await asyncio.wait_for(steps.ended.wait(), 5)
        assert steps.done <= at + 1
        await until(lambda: value(service, "whylight_in_flight", model=MODEL, lane="predict") == 0)
        labels = {"model": MODEL, "method": "layer_cam"}
        assert value(service, "whylight_cancelled_work_seconds_count", **labels) == 1
        assert value(service, "whylight_cancelled_work_seconds_sum", **labels) < 2 * TICK + 0.2  # type: ignore[operator]
        outcome = {**labels, "rpc": "StreamExplain", "code": "CANCELLED"}
        assert value(service, "whylight_requests_total", **outcome) == 1
        assert (await service.stub.Explain(explain())).predictions


async def test_the_place_stays_taken_until_the_worker_has_stopped() -> None:
    """TorchServe lets go of nothing: the next request would only wait there instead of here."""
    async with front(in_flight=1) as service:
        steps = Steps(service, steps=1000)
        steps.stubborn = 0.3
        call = service.stub.Explain(explain(method=SLOW))
        await until(lambda: steps.done >= 1)
        call.cancel()
        await until(lambda: steps.lines[0].hung_up)
        assert value(service, "whylight_in_flight", model=MODEL, lane="predict") == 1
        assert (await service.stub.Explain(explain())).predictions
        assert steps.ended.is_set()
        labels = {"model": MODEL, "method": "layer_cam"}
        assert value(service, "whylight_cancelled_work_seconds_sum", **labels) >= 0.25  # type: ignore[operator]


async def test_who_waits_for_room_leaves_at_once() -> None:
    """What was never handed to a worker has nothing to stop, and nothing to measure."""
    async with front(in_flight=1) as service:
        steps = Steps(service, steps=1000)
        first = service.stub.Explain(explain(method=SLOW))
        await until(lambda: steps.done >= 1)
        second = service.stub.Explain(explain(method=SLOW))
        await until(lambda: value(service, "whylight_queue_length", model=MODEL, lane="predict") == 1)
        second.cancel()
        await until(lambda: value(service, "whylight_queue_length", model=MODEL, lane="predict") == 0)
        labels = {"model": MODEL, "method": "layer_cam"}
        assert value(service, "whylight_cancelled_work_seconds_count", **labels) is None
        first.cancel()
        await asyncio.wait_for(steps.ended.wait(), 5)


@pytest.mark.parametrize("whose", ["the client's", "the service's"])
async def test_a_deadline_stops_the_work(whose: str) -> None:
    """Whoever set it, the client has DEADLINE_EXCEEDED after what was there in time, and the worker hears of it."""
    limits = {"default_timeout": 0.4} if whose == "the service's" else {}
    async with front(**limits) as service:
        steps = Steps(service, steps=1000)
        before, error = await refused(stream(service, timeout=None if limits else 0.4))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert before[:3] == ["prediction", "preview", "progress"]
        await asyncio.wait_for(steps.ended.wait(), 5)
        await until(lambda: value(service, "whylight_in_flight", model=MODEL, lane="predict") == 0)


async def test_allow_partial_reaches_the_worker_and_the_mark_comes_back() -> None:
    """The map is marked, in the explanation and by a warning."""
    async with slow_front() as (service, _):
        answer = service.worker.answer

        def partly(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
            response = answer(request)
            if request.image.allow_partial:
                response.image.explanations[0].partial.CopyFrom(types_pb2.Partial(step=2, steps=4))
                response.image.warnings.add(code=types_pb2.WARNING_CODE_PARTIAL, target_index=1)
            return response

        service.worker.answer = partly
        request = explain(method=SLOW, targets=ONE, allow_partial=True)
        *_, last = await everything(stream(service, request=request))
        assert last.result.explanations[0].partial == types_pb2.Partial(step=2, steps=4)
        assert types_pb2.WARNING_CODE_PARTIAL in [warning.code for warning in last.result.warnings]
        asked = {each.image.method.WhichOneof("method"): each.image.allow_partial for each in service.worker.requests}
        assert asked == {None: False, "grad_cam": False, "layer_cam": True}


@pytest.mark.parametrize("partial", [True, False])
async def test_a_partial_map_is_no_quality_sample(partial: bool) -> None:
    """How good it is would say nothing of the method; a whole one is drawn once."""
    async with front(policy=Policy(rules=(Rule(share=1.0),))) as service:

        def answer(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
            response = precise(request)
            for explanation in response.image.explanations if partial else ():
                explanation.partial.CopyFrom(types_pb2.Partial(step=2, steps=4))
            return response

        service.worker.answer = answer
        await everything(stream(service))
        assert service.sampler is not None
        assert len(service.sampler._waiting) == (0 if partial else 1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request": explain(image=b"")}, "request.image"),
        ({"request": explain(top_k=0)}, "request.top_k"),
        ({"progress_interval": {"nanos": 1_000_000}}, "progress_interval"),
        ({"progress_interval": {"seconds": -1}}, "progress_interval"),
        ({"progress_interval": {"seconds": 61}}, "progress_interval"),
    ],
)
async def test_an_unacceptable_field_is_named_within_the_stream(fields: dict[str, object], field: str) -> None:
    """By its path in the request that the client sent; no worker is asked."""
    async with front() as service:
        before, error = await refused(stream(service, **fields))
        assert (before, error.code()) == ([], grpc.StatusCode.INVALID_ARGUMENT)
        violations = details(error)["BadRequest"].field_violations  # type: ignore[attr-defined]
        assert [violation.field for violation in violations] == [field]
        assert service.worker.requests == []


async def test_what_a_worker_refuses_is_named_within_the_stream_too() -> None:
    """A field that only the worker can judge; it comes behind the prediction, or in place of it."""
    async with front() as service:
        answer = service.worker.answer

        def fussy(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
            if request.image.method.WhichOneof("method") != "layer_cam":
                return answer(request)
            return worker_pb2.WorkResponse(
                status=worker_pb2.WORK_STATUS_INVALID_ARGUMENT, reason="UNKNOWN_LAYER", message="no such layer",
                violations=[worker_pb2.FieldViolation(field="method.layer_cam.layer", description="no such layer")],
            )  # fmt: skip

        service.worker.answer = fussy
        _, error = await refused(stream(service))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        violations = details(error)["BadRequest"].field_violations  # type: ignore[attr-defined]
        assert [violation.field for violation in violations] == ["request.method.layer_cam.layer"]
        assert details(error)["ErrorInfo"].reason == "UNKNOWN_LAYER"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorkerUnavailableError("no worker"), grpc.StatusCode.UNAVAILABLE),
        (RuntimeError("/secret/path"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_an_error_has_its_status_and_is_counted_once(error: Exception, code: grpc.StatusCode) -> None:
    """As of other calls, and without the text of a fault of ours."""
    async with front() as service:
        service.worker.error = error
        _, caught = await refused(stream(service))
        assert caught.code() is code
        assert "secret" not in caught.details()
        labels = {"rpc": "StreamExplain", "model": MODEL, "method": "layer_cam", "code": code.name}
        assert value(service, "whylight_requests_total", **labels) == 1


async def test_an_explanation_that_is_refused_is_not_waited_for() -> None:
    """Also while the prediction is still on its way: the stream ends at once."""
    async with front() as service:
        answer = service.worker.send

        async def send(model: str, body: bytes, timeout: float) -> bytes:
            if worker_pb2.WorkRequest.FromString(body).image.method.WhichOneof("method") == "layer_cam":
                raise WorkerUnavailableError("no worker")
            await asyncio.sleep(5)
            return await answer(model, body, timeout)

        service.worker.send = send  # type: ignore[method-assign]
        before, error = await asyncio.wait_for(refused(stream(service)), 3)
        assert (before, error.code()) == ([], grpc.StatusCode.UNAVAILABLE)


async def test_a_stream_is_one_observed_call_with_its_request_id() -> None:
    """The id is in the metadata and in every answer; the explanation is counted, its prediction and preview are not."""
    async with slow_front() as (service, _):
        call = stream(service, metadata=(("x-request-id", "abc-1"),))
        events = await everything(call)
        assert ("x-request-id", "abc-1") in tuple(await call.initial_metadata())  # type: ignore[attr-defined]
        answers = [events[0].prediction, events[1].preview, events[-1].result]
        assert {answer.provenance.request_id for answer in answers} == {"abc-1"}
        labels = {"model": MODEL, "method": "layer_cam"}
        await until(lambda: value(service, "whylight_requests_total", rpc="StreamExplain", code="OK", **labels) == 1)
        assert value(service, "whylight_request_duration_seconds_count", rpc="StreamExplain", **labels) == 1
        assert value(service, "whylight_degenerate_maps_total", **labels) == 1
        assert value(service, "whylight_degenerate_maps_total", model=MODEL, method="grad_cam") is None
        assert value(service, "whylight_cancelled_work_seconds_count", **labels) is None


async def test_a_stream_is_charged_once_as_an_explanation(tmp_path: Path) -> None:
    """Neither its prediction nor its preview takes of a quota; with none left nothing is sent, and no worker asked."""
    quotas = {"explanations_per_minute": 1, "predictions_per_minute": 1}
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", **quotas))
    async with front(clients_file=path) as service:
        assert kinds(await everything(stream(service, metadata=bearer("a"))))[-1] == "result"
        asked = len(service.worker.requests)
        before, error = await refused(stream(service, metadata=bearer("a")))
        assert (before, error.code()) == ([], grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert details(error)["ErrorInfo"].reason == "QUOTA_EXCEEDED"  # type: ignore[attr-defined]
        assert len(service.worker.requests) == asked
        await service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE), metadata=bearer("a"))


@pytest.mark.parametrize(
    ("tier", "data_type"), [("coarse", types_pb2.DATA_TYPE_UINT8), ("standard", types_pb2.DATA_TYPE_UINT16)]
)
async def test_every_message_of_a_stream_has_the_callers_precision(tier: str, data_type: int, tmp_path: Path) -> None:
    """The prediction, the map of the preview, the maps so far and the result; no logit, and no objective."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", precision=tier))
    async with slow_front(clients_file=path) as (service, _):
        service.worker.answer = precise
        events = await everything(stream(service, metadata=bearer("a"), progress_maps=True))
    assert kinds(events) == ["prediction", "preview", *["progress"] * STEPS, "result"]
    prediction, preview, *steps, result = events
    maps = [each.map for event in steps for each in event.progress.maps]
    assert maps
    maps += [item.map for event in (preview.preview, result.result) for item in event.explanations]
    assert {saliency.values.data_type for saliency in maps} == {data_type}
    assert {(saliency.raw_minimum, saliency.raw_maximum) for saliency in maps} == {(0.0, 0.0)}
    assert prediction.prediction.predictions[0].logit == 0.0
    assert not any(event.progress.HasField("objective") for event in steps)
    named = types_pb2.Precision.Value(f"PRECISION_{tier.upper()}")
    for answer in (prediction.prediction, preview.preview, result.result):
        assert answer.provenance.precision == named


async def test_coarse_refuses_pictures_within_a_stream(tmp_path: Path) -> None:
    """Before anything is computed."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", precision="coarse"))
    async with front(clients_file=path) as service:
        request = explain(method=SLOW, output=api.OutputOptions(overlay_png=True))
        before, error = await refused(stream(service, metadata=bearer("a"), request=request))
        assert (before, error.code()) == ([], grpc.StatusCode.PERMISSION_DENIED)
        assert service.worker.requests == []


def test_who_reads_slowly_has_the_latest_step_with_the_maps_that_were_not_read() -> None:
    """Nothing piles up."""
    watch = LatestStep(StreamOptions(preview=True, maps=True, interval=1.0))
    watch.progress(worker_pb2.Progress(step=1, steps=9, maps=[types_pb2.TargetMap(target_index=7)]))
    watch.progress(worker_pb2.Progress(step=2, steps=9))
    latest = watch.take()
    assert latest is not None
    assert (latest.step, [each.target_index for each in latest.maps]) == (2, [7])
    assert watch.take() is None
