"""The public procedures over a real channel, on a worker that answers in process."""

import asyncio
import logging
import socket

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service.errors import DeadlineError, WorkerUnavailableError
from service.monitor import SERVICE
from service.status_details import KEY
from service.torchserve.client import ModelWorkers
from tests.service.fakes import LABELS, MODEL, front

PREDICT = {"model": MODEL, "lane": "predict"}
IMAGE = b"any bytes: the worker decodes"


def details(error: grpc.aio.AioRpcError) -> dict[str, object]:
    """The google.rpc details of an error by type name."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[KEY])
    assert status.code == error.code().value[0]
    found = {}
    for detail in status.details:
        for kind in (error_details_pb2.BadRequest, error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    return found


def explain(**fields: object) -> api.ExplainRequest:
    return api.ExplainRequest(**{"model": MODEL, "image": IMAGE, **fields})


async def refused(call: grpc.aio.UnaryUnaryCall) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_predict_answers_with_provenance_timings_and_request_id() -> None:
    """A prediction carries who made it, where the time went, and the id that the client chose."""
    async with front() as service:
        call = service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE), metadata=(("x-request-id", "abc-1"),))
        response = await call
        assert [score.label for score in response.predictions] == ["dog"]
        assert response.provenance.request_id == "abc-1"
        assert response.provenance.model_version == "1.0"
        assert not response.provenance.HasField("method")
        assert response.timings.compute.ToMicroseconds() == 1000
        assert response.timings.total.ToNanoseconds() >= response.timings.transport.ToNanoseconds()
        assert ("x-request-id", "abc-1") in tuple(await call.initial_metadata())
        assert service.worker.requests[0].image.image == IMAGE
        assert service.worker.requests[0].image.top_k == 5


async def test_it_listens_on_ipv6_too() -> None:
    """The loopback address ::1 is as good as 127.0.0.1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with front(host="::1") as service:
        assert service.address.startswith("[::1]:")
        await service.stub.ListModels(api.ListModelsRequest())


async def test_a_harmful_request_id_is_replaced() -> None:
    """An id with other than plain characters never comes back, and so never reaches a log."""
    async with front() as service:
        metadata = (("x-request-id", "a b%0a"),)
        response = await service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE), metadata=metadata)
        assert len(response.provenance.request_id) == 32


async def test_explain_defaults_to_grad_cam_of_the_predicted_class() -> None:
    """Without method and targets, the worker is asked for Grad-CAM of the most probable class."""
    async with front() as service:
        response = await service.stub.Explain(explain())
        asked = service.worker.requests[0].image
        assert asked.method.WhichOneof("method") == "grad_cam"
        assert asked.target_top_k == 1
        assert not asked.class_indices
        assert asked.output.overlay_opacity == 0.5
        assert asked.output.resolution == types_pb2.MAP_RESOLUTION_NATIVE
        assert response.provenance.target_layer == "layer4"
        assert "not show where" in response.interpretation


async def test_targets_by_index_and_label_reach_the_worker_as_indices() -> None:
    """Labels become indices in the order asked for, and a degenerate map is warned about for its class."""
    async with front() as service:
        classes = api.ClassList(classes=[api.ClassReference(label="dog"), api.ClassReference(index=0)])
        response = await service.stub.Explain(explain(targets=api.Targets(classes=classes)))
        assert list(service.worker.requests[0].image.class_indices) == [1, 0]
        codes = [(warning.code, warning.target_index) for warning in response.warnings]
        assert codes == [(types_pb2.WARNING_CODE_DEGENERATE_MAP, 1), (types_pb2.WARNING_CODE_DEGENERATE_MAP, 0)]


def reference(**fields: object) -> api.Targets:
    return api.Targets(classes=api.ClassList(classes=[api.ClassReference(**fields)]))


def fused(*layers: str) -> api.ExplainRequest:
    return explain(method=method_pb2.Method(layer_cam=method_pb2.LayerCam(further_layers=layers)))


async def test_a_list_of_strings_reaches_the_worker() -> None:
    """As many entries as the worker allows, in their order."""
    async with front() as service:
        await service.stub.Explain(fused("c", "a", "b"))
        assert list(service.worker.requests[0].image.method.layer_cam.further_layers) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (explain(image=b""), "image"),
        (explain(image=b"x" * 2000), "image"),
        (explain(top_k=0), "top_k"),
        (explain(top_k=101), "top_k"),
        (explain(targets=api.Targets(top_k=0)), "targets.top_k"),
        (explain(targets=api.Targets(top_k=11)), "targets.top_k"),
        (explain(targets=api.Targets(classes=api.ClassList())), "targets.classes"),
        (explain(targets=reference(index=len(LABELS))), "targets.classes[0].index"),
        (explain(targets=reference(label="unicorn")), "targets.classes[0].label"),
        (explain(targets=reference(label="crane")), "targets.classes[0].label"),
        (explain(targets=reference()), "targets.classes[0]"),
        (explain(targets=api.Targets(classes=api.ClassList(classes=[api.ClassReference(index=1)] * 2))),
         "targets.classes"),
        (explain(method=method_pb2.Method()), "method"),
        (explain(method=method_pb2.Method(grad_cam=method_pb2.GradCam(layer="x" * 300))), "method.grad_cam.layer"),
        (fused("a", "b", "c", "d"), "method.layer_cam.further_layers"),
        (fused("a", "b", "a"), "method.layer_cam.further_layers"),
        (fused("a", ""), "method.layer_cam.further_layers[1]"),
        (fused("x" * 300, "a"), "method.layer_cam.further_layers[0]"),
        (explain(output=api.OutputOptions(overlay_opacity=float("nan"))), "output.overlay_opacity"),
        (explain(output=api.OutputOptions(overlay_opacity=1.5)), "output.overlay_opacity"),
        (explain(output=api.OutputOptions(color_map=99)), "output.color_map"),
        (explain(output=api.OutputOptions(resolution=99)), "output.resolution"),
    ],
)  # fmt: skip
async def test_an_unacceptable_field_is_named(request_: api.ExplainRequest, field: str) -> None:
    """Every wrong field gives INVALID_ARGUMENT with its path in BadRequest, and no worker is asked."""
    async with front(max_image_bytes=1024) as service:
        error = await refused(service.stub.Explain(request_))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        violations = details(error)["BadRequest"].field_violations  # type: ignore[attr-defined]
        assert [violation.field for violation in violations] == [field]
        assert service.worker.requests == []


async def test_all_that_is_wrong_is_named_at_once() -> None:
    """Two wrong fields are two violations of one answer."""
    async with front() as service:
        error = await refused(service.stub.Explain(explain(image=b"", top_k=0)))
        violations = details(error)["BadRequest"].field_violations  # type: ignore[attr-defined]
        assert {violation.field for violation in violations} == {"image", "top_k"}


async def test_unknown_model_and_version_are_not_found() -> None:
    """A model that is not deployed, or not in that version, is NOT_FOUND with its reason."""
    async with front() as service:
        for request in (explain(model="other"), explain(model_version="9")):
            error = await refused(service.stub.Explain(request))
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert details(error)["ErrorInfo"].reason == "MODEL_NOT_FOUND"  # type: ignore[attr-defined]


async def test_a_method_that_the_model_does_not_allow_is_a_failed_precondition() -> None:
    """CAM without a linear head is refused before any work, with the worker's reason."""
    async with front() as service:
        error = await refused(service.stub.Explain(explain(method=method_pb2.Method(cam=method_pb2.Cam()))))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "linear head" in error.details()
        assert service.worker.requests == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (worker_pb2.WORK_STATUS_INVALID_ARGUMENT, grpc.StatusCode.INVALID_ARGUMENT),
        (worker_pb2.WORK_STATUS_NOT_APPLICABLE, grpc.StatusCode.FAILED_PRECONDITION),
        (worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED, grpc.StatusCode.DEADLINE_EXCEEDED),
        (worker_pb2.WORK_STATUS_RESOURCE_EXHAUSTED, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (worker_pb2.WORK_STATUS_INTERNAL, grpc.StatusCode.INTERNAL),
        (worker_pb2.WORK_STATUS_UNSPECIFIED, grpc.StatusCode.INTERNAL),
    ],
)
async def test_the_workers_status_becomes_the_calls_status(status: int, code: grpc.StatusCode) -> None:
    """Each status that a worker can give for an item has its gRPC status and reason."""
    async with front() as service:
        service.worker.answer = lambda request: worker_pb2.WorkResponse(
            status=status, reason="IMAGE_TRUNCATED", message="the image is cut off",
            violations=[worker_pb2.FieldViolation(field="image", description="is cut off")],
        )  # fmt: skip
        error = await refused(service.stub.Explain(explain()))
        assert error.code() is code
        if code is not grpc.StatusCode.INTERNAL:
            assert details(error)["ErrorInfo"].reason == "IMAGE_TRUNCATED"  # type: ignore[attr-defined]
            assert error.details() == "the image is cut off"


async def test_a_fault_of_ours_tells_the_client_and_the_log_nothing_of_the_user(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unexpected exception gives INTERNAL with the request id; its text stays out of the answer and of the log."""
    async with front() as service:
        service.worker.error = RuntimeError("/secret/path patient Jane Doe")
        with caplog.at_level(logging.DEBUG):
            error = await refused(service.stub.Explain(explain()))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "internal error, request" in error.details()
        assert "RuntimeError" in caplog.text
        for text in (error.details(), caplog.text):
            assert "secret" not in text
            assert "Jane" not in text


async def test_no_room_is_refused_at_once_with_a_retry_delay() -> None:
    """With the workers and the queue full, one more request is refused while the others are still answered."""
    async with front(in_flight=1, queue_size=1) as service:
        service.worker.gate.clear()
        first, second = (asyncio.ensure_future(service.stub.Explain(explain())) for _ in range(2))
        while service.metrics.registry.get_sample_value("whylight_queue_length", PREDICT) != 1:
            await asyncio.sleep(0.005)
        error = await refused(service.stub.Explain(explain()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["RetryInfo"].retry_delay.ToMilliseconds() == 1000  # type: ignore[attr-defined]
        service.worker.gate.set()
        assert len((await first).predictions) == len((await second).predictions) == 1
        assert service.metrics.registry.get_sample_value("whylight_in_flight", PREDICT) == 0


async def test_a_deadline_in_the_queue_gives_up_its_place() -> None:
    """A request that waits longer than its deadline leaves the queue, and the next one gets its place."""
    async with front(in_flight=1, queue_size=1) as service:
        service.worker.gate.clear()
        first = asyncio.ensure_future(service.stub.Explain(explain()))
        while not service.worker.requests:
            await asyncio.sleep(0.005)
        error = await refused(service.stub.Explain(explain(), timeout=0.1))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        third = asyncio.ensure_future(service.stub.Explain(explain()))
        await asyncio.sleep(0.05)
        service.worker.gate.set()
        assert (await first).predictions
        assert (await third).predictions


async def test_the_clients_deadline_is_passed_on() -> None:
    """The worker is told when nobody waits any more."""
    async with front() as service:
        await service.stub.Explain(explain(), timeout=7)
        request = service.worker.requests[0]
        await service.stub.Explain(explain())
        default = service.worker.requests[1]
        assert 20 < default.deadline.ToSeconds() - request.deadline.ToSeconds() < 25


async def test_a_client_whose_deadline_is_missed_is_told_so_before_it_gives_up() -> None:
    """DEADLINE_EXCEEDED comes from the service, with its details, and not from the client's own library."""
    async with front(in_flight=1) as service:
        service.worker.gate.clear()
        first = service.stub.Explain(explain(), timeout=30)
        error = await refused(service.stub.Explain(explain(), timeout=0.5))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "ErrorInfo" in details(error)
        service.worker.gate.set()
        await first


@pytest.mark.parametrize("error", [WorkerUnavailableError("no worker"), DeadlineError("too late")])
async def test_errors_of_the_worker_client_reach_the_client(error: Exception) -> None:
    """What the client of TorchServe raises has its status, and RetryInfo where a retry makes sense."""
    async with front() as service:
        service.worker.error = error
        caught = await refused(service.stub.Explain(explain()))
        assert caught.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert ("RetryInfo" in details(caught)) == isinstance(error, WorkerUnavailableError)


async def test_health_follows_the_workers() -> None:
    """Health is SERVING with a ready worker; without one it is not, GetModel says so, and requests are refused."""
    async with front() as service:
        stub = health_pb2_grpc.HealthStub(service.channel)

        async def status(name: str) -> str:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

        names = ("", SERVICE, f"models/{MODEL}")
        assert [await status(name) for name in names] == ["SERVING"] * 3
        service.worker.workers = {MODEL: ModelWorkers(MODEL, ready=0, total=1, versions=("1.0",))}
        await service.monitor.look()
        assert [await status(name) for name in names] == ["NOT_SERVING"] * 3
        model = (await service.stub.GetModel(api.GetModelRequest(model=MODEL))).model
        assert model.state == types_pb2.MODEL_STATE_UNAVAILABLE
        error = await refused(service.stub.Explain(explain()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "RetryInfo" in details(error)
        refusals = {"rpc": "Explain", "model": MODEL, "method": "", "code": "UNAVAILABLE"}
        assert service.metrics.registry.get_sample_value("whylight_requests_total", refusals) == 1
        service.worker.workers = {MODEL: ModelWorkers(MODEL, ready=1, total=2, versions=("1.0",))}
        await service.monitor.look()
        assert [await status(name) for name in names] == ["SERVING"] * 3
        model = (await service.stub.GetModel(api.GetModelRequest(model=MODEL))).model
        assert model.state == types_pb2.MODEL_STATE_DEGRADED


async def test_models_and_methods_are_listed() -> None:
    """ListModels leaves out what is long, GetModel has it, ListMethods says on which models each method works."""
    async with front() as service:
        listed = (await service.stub.ListModels(api.ListModelsRequest())).models
        assert [model.name for model in listed] == [MODEL]
        assert not listed[0].labels
        full = (await service.stub.GetModel(api.GetModelRequest(model=MODEL))).model
        assert tuple(full.labels) == LABELS
        assert full.state == types_pb2.MODEL_STATE_READY
        methods = (await service.stub.ListMethods(api.ListMethodsRequest())).methods
        assert {method.name: list(method.models) for method in methods} == {
            "grad_cam": [MODEL],
            "layer_cam": [MODEL],
            "cam": [],
            "rise": [MODEL],
        }
        fitting = (await service.stub.ListMethods(api.ListMethodsRequest(model=MODEL))).methods
        assert [method.name for method in fitting] == ["grad_cam", "layer_cam", "rise"]


async def test_requests_are_counted_and_timed_by_model_and_method() -> None:
    """Counters carry the status, histograms the stages; a client's own text never becomes a label."""
    async with front() as service:
        await service.stub.Explain(explain())
        await refused(service.stub.Explain(explain(model="made-up")))
        value = service.metrics.registry.get_sample_value
        labels = {"rpc": "Explain", "model": MODEL, "method": "grad_cam"}
        assert value("whylight_requests_total", {**labels, "code": "OK"}) == 1
        assert value("whylight_request_duration_seconds_count", labels) == 1
        assert value("whylight_stage_duration_seconds_count", {**labels, "stage": "compute"}) == 1
        assert value("whylight_queue_duration_seconds_count", {"model": MODEL, "method": "grad_cam"}) == 1
        unknown = {"rpc": "Explain", "model": "", "method": "", "code": "NOT_FOUND"}
        assert value("whylight_requests_total", unknown) == 1


async def test_a_torchserve_elsewhere_may_have_models_of_others() -> None:
    """Models are discovered; one whose answers are not ours is left out and does not make the service unhealthy."""
    async with front() as service:
        service.worker.workers["foreign"] = ModelWorkers("foreign", ready=1, total=1, versions=("1.0",))
        service.monitor = service.make_monitor(discover=True)
        original = service.worker.send

        async def send(model: str, body: bytes, timeout: float) -> bytes:
            return b"\xff no message" if model == "foreign" else await original(model, body, timeout)

        service.worker.send = send  # type: ignore[method-assign]
        await service.monitor.look()
        await service.monitor.look()
        assert [model.name for model in service.catalog] == [MODEL]
        assert service.monitor.all_ready.is_set()
