"""Quality figures over the public procedures, on a worker that answers in process."""

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from model_store.lanes import quality_lane
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service.torchserve.client import ModelWorkers
from tests.service.fakes import MODEL, front, prediction
from tests.service.test_front import details, explain, refused

GRAD_CAM = method_pb2.Method(grad_cam=method_pb2.GradCam())
LONG = method_pb2.Method(grad_cam=method_pb2.GradCam(layer="x" * 300))


def quality(*names: str, compare_with: method_pb2.Method | None = None) -> quality_pb2.QualityOptions:
    return quality_pb2.QualityOptions(metrics=[{"name": name} for name in names], compare_with=compare_with)


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (quality("magic"), ["quality.metrics[0].name"]),
        (quality("average_drop", ""), ["quality.metrics[1].name"]),
        (quality("rank_correlation"), ["quality.compare_with"]),
        (quality(*["average_drop"] * 17), ["quality.metrics"]),
        (quality(*["magic"] * 1000), ["quality.metrics", *(f"quality.metrics[{i}].name" for i in range(16))]),
        (quality(compare_with=method_pb2.Method()), ["quality.compare_with"]),
        (quality(compare_with=method_pb2.Method(tibav={})), ["quality.compare_with"]),
        (quality(compare_with=LONG), ["quality.compare_with.grad_cam.layer"]),
    ],
)
async def test_an_unacceptable_field_is_named(asked: quality_pb2.QualityOptions, fields: list[str]) -> None:
    """INVALID_ARGUMENT with the paths of what is wrong, before a worker is asked."""
    async with front() as service:
        error = await refused(service.stub.Explain(explain(quality=asked)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        violations = details(error)["BadRequest"].field_violations  # type: ignore[attr-defined]
        assert [violation.field for violation in violations] == fields
        assert "magic" not in str(violations)
        assert service.worker.requests == []


async def test_sixteen_metrics_are_allowed() -> None:
    """As many as may be asked for."""
    async with front() as service:
        await service.stub.Explain(explain(quality=quality(*["average_drop"] * 16)))
        assert len(service.worker.requests[0].image.quality.metrics) == 16


async def test_a_second_method_that_the_model_does_not_allow() -> None:
    """FAILED_PRECONDITION with the worker's reason, as for the first method."""
    async with front() as service:
        asked = quality(compare_with=method_pb2.Method(cam=method_pb2.Cam()))
        error = await refused(service.stub.Explain(explain(quality=asked)))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "linear head" in error.details()
        assert service.worker.requests == []


async def test_what_is_asked_for_reaches_the_worker_as_it_is() -> None:
    """Names, parameters and the second method; nothing where nothing is asked for."""
    asked = quality("average_drop", "rank_correlation", compare_with=GRAD_CAM)
    asked.metrics[0].parameters.update({"steps": 8, "baseline": "blur", "rescale": True})
    async with front() as service:
        await service.stub.Explain(explain(quality=asked))
        assert service.worker.requests[0].image.quality == asked
        await service.stub.Explain(explain())
        assert service.worker.requests[1].image.quality == quality_pb2.QualityOptions()


def measured(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """An answer with a figure that has a value, one that has none, and the worker's warning."""
    response = prediction(request)
    explanation = response.image.explanations.add(target={"index": 1})
    explanation.quality.add(metric="average_drop", value=0.0, parameters=Struct())
    explanation.quality.add(metric="rank_correlation")
    response.image.warnings.add(code=types_pb2.WARNING_CODE_METHODS_DISAGREE, message="they do", target_index=1)
    response.image.quality.FromMicroseconds(2500)
    return response


async def test_figures_warnings_and_their_time_reach_the_client() -> None:
    """Also a figure of zero, which is not the same as none; warnings come after the service's own."""
    async with front() as service:
        service.worker.answer = measured
        response = await service.stub.Explain(explain(targets=api.Targets(top_k=1)))
        figures = response.explanations[0].quality
        assert [(figure.metric, figure.HasField("value")) for figure in figures] == [
            ("average_drop", True),
            ("rank_correlation", False),
        ]
        (warning,) = response.warnings
        assert (warning.code, warning.message) == (types_pb2.WARNING_CODE_METHODS_DISAGREE, "they do")
        assert warning.target_index == 1
        assert response.timings.quality.ToMicroseconds() == 2500
        labels = {"rpc": "Explain", "model": MODEL, "method": "grad_cam", "stage": "quality"}
        value = service.metrics.registry.get_sample_value("whylight_stage_duration_seconds_sum", labels)
        assert value == pytest.approx(0.0025)


async def test_metrics_are_listed() -> None:
    """As the workers describe them, each once; none before a worker was ready."""
    async with front() as service:
        listed = (await service.stub.ListMetrics(api.ListMetricsRequest())).metrics
        assert [(metric.name, metric.compares) for metric in listed] == [
            ("average_drop", False),
            ("insertion", False),
            ("rank_correlation", True),
        ]
        service.catalog.forget(MODEL)
        service.catalog.declare(MODEL)
        assert not (await service.stub.ListMetrics(api.ListMetricsRequest())).metrics


async def test_sanity_checks_are_in_get_model_alone() -> None:
    """Once they are there; the list of models stays short."""
    async with front() as service:
        model = (await service.stub.GetModel(api.GetModelRequest(model=MODEL))).model
        assert not model.sanity_checks
        check = types_pb2.SanityCheck(method="grad_cam", rank_correlation=0.25, passed=True, stages=4, images=2)
        service.catalog.checked(MODEL, [check])
        service.catalog.checked("gone", [check])
        for _ in range(2):
            model = (await service.stub.GetModel(api.GetModelRequest(model=MODEL))).model
            assert list(model.sanity_checks) == [check]
        (listed,) = (await service.stub.ListModels(api.ListModelsRequest())).models
        assert not listed.sanity_checks


@pytest.mark.parametrize("discover", [True, False])
async def test_lanes_are_nobodys_business(discover: bool) -> None:
    """What measures quality is no model: not listed, not in the health, not to be asked; dead it harms nobody."""
    async with front() as service:
        lane = quality_lane(MODEL)
        service.worker.workers[lane] = ModelWorkers(lane, ready=0, total=1, versions=("1.0",))
        service.monitor = service.make_monitor(discover=discover)
        await service.monitor.look()
        assert [model.name for model in (await service.stub.ListModels(api.ListModelsRequest())).models] == [MODEL]
        assert service.monitor.all_ready.is_set()
        assert all(lane not in name for name in service.monitor._said)
        assert service.metrics.registry.get_sample_value("whylight_workers", {"model": lane}) is None
        error = await refused(service.stub.Explain(explain(model=lane)))
        assert error.code() is grpc.StatusCode.NOT_FOUND
