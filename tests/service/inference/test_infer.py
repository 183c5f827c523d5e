"""ModelInfer over a real channel, on a worker that answers in process."""

import asyncio
import io
import json
import math
from typing import Any

import grpc
import pytest
from PIL import Image

from protos.explain.v1 import types_pb2
from service.errors import InvalidRequestError, Violation
from service.throttling import THROTTLED
from tests.service.fakes import LABELS, MODEL, front
from tests.service.inference.asking import (
    AFFINE,
    FIGURE,
    VALUES,
    ask,
    packed,
    parameter,
    stub_of,
    tensors,
    whole,
)
from tests.service.test_front import IMAGE, details, refused

PREDICTED = ["probabilities", "logits", "classes", "labels"]
EXPLAINED = [*PREDICTED, "saliency", "targets", "map_to_image"]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
async def test_a_prediction_is_answered_in_kind(raw: bool) -> None:
    """Raw contents are answered by raw ones, typed by typed; id, version and provenance come along."""
    async with front() as service:
        response = await stub_of(service).ModelInfer(ask(raw=raw, id="mine", parameters={"top_k": 3}))
        sent = service.worker.requests[0].image
    assert (sent.image, sent.top_k, sent.HasField("method")) == (IMAGE, 3, False)
    assert (response.model_name, response.model_version, response.id) == (MODEL, "1.0", "mine")
    assert bool(response.raw_output_contents) == raw
    found = tensors(response)
    assert list(found) == PREDICTED
    assert found["probabilities"] == ("FP32", [1, 1], [pytest.approx(0.9)])
    assert found["logits"] == ("FP32", [1, 1], [2.0])
    assert found["classes"] == ("INT64", [1, 1], [1])
    assert found["labels"] == ("BYTES", [1, 1], [b"dog"])
    provenance = json.loads(response.parameters["provenance"].string_param)
    assert provenance["model"] == MODEL
    assert provenance["precision"] == "PRECISION_FULL"


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize(
    ("parameters", "outputs", "names"),
    [
        ({"explain": True}, [], EXPLAINED),
        ({"explain": "true"}, ["labels"], ["labels", "saliency"]),
        ({}, ["saliency"], ["saliency"]),
        ({}, ["targets", "saliency", "classes"], ["targets", "saliency", "classes"]),
        ({}, ["map_to_image"], ["map_to_image"]),
    ],
)
async def test_saliency_comes_when_it_is_asked_for(
    parameters: dict[str, Any], outputs: list[str], names: list[str], raw: bool
) -> None:
    """By explain=true or by its name, with the outputs that are named in their order, or else with all."""
    async with front() as service:
        service.worker.answer = whole
        parameters = {"target": "dog", **parameters}
        response = await stub_of(service).ModelInfer(ask(raw=raw, parameters=parameters, outputs=outputs))
        assert service.worker.requests[0].image.method.WhichOneof("method") == "grad_cam"
    found = tensors(response)
    assert list(found) == names
    if "saliency" in found:
        assert found["saliency"] == ("FP32", [1, 1, 2, 3], pytest.approx(VALUES))
    if "targets" in found:
        assert found["targets"] == ("INT64", [1, 1], [1])
    if "map_to_image" in found:
        rows = [AFFINE["xx"], 0.0, AFFINE["x0"], 0.0, AFFINE["yy"], AFFINE["y0"]]
        assert found["map_to_image"] == ("FP64", [1, 1, 2, 3], rows)
    assert "influenced" in response.parameters["interpretation"].string_param


async def test_method_target_and_their_parameters_are_request_parameters() -> None:
    """Each by its own name; texts stand for numbers and lists, for clients that can send nothing else."""
    parameters = {
        "explain": True,
        "method": "layer_cam",
        "layer": "layer3",
        "further_layers": "layer2,layer1",
        "target": 2,
        "resolution": "input",
        "allow_partial": True,
        "top_k": "2",
    }
    async with front() as service:
        service.worker.answer = whole
        await stub_of(service).ModelInfer(ask(parameters=parameters))
        sent = service.worker.requests[0].image
    assert sent.method.layer_cam.layer == "layer3"
    assert sent.method.layer_cam.further_layers == ["layer2", "layer1"]
    assert (sent.class_indices, sent.top_k, sent.allow_partial) == ([2], 2, True)
    assert sent.output.resolution == types_pb2.MAP_RESOLUTION_INPUT


async def test_the_most_probable_classes_are_targets_too() -> None:
    """target_top_k is as in explain.v1."""
    async with front() as service:
        await stub_of(service).ModelInfer(ask(parameters={"explain": True, "target_top_k": 2}, outputs=["targets"]))
        assert service.worker.requests[0].image.target_top_k == 2


async def test_quality_figures_are_outputs() -> None:
    """Asked for by the parameter or by name; NaN where a metric is not defined; compare_with names a second method."""
    parameters = {"target": 1, "quality": "average_drop, rank_correlation", "compare_with": "layer_cam"}
    async with front() as service:
        service.worker.answer = whole
        response = await stub_of(service).ModelInfer(
            ask(parameters=parameters, outputs=["quality.insertion", "saliency"])
        )
        sent = service.worker.requests[0].image.quality
    assert [choice.name for choice in sent.metrics] == ["average_drop", "rank_correlation", "insertion"]
    assert sent.compare_with.WhichOneof("method") == "layer_cam"
    found = tensors(response)
    names = ["quality.insertion", "saliency", "quality.average_drop", "quality.rank_correlation"]
    assert list(found) == names
    assert found["quality.average_drop"] == ("FP64", [1, 1], [FIGURE])
    assert math.isnan(found["quality.insertion"][2][0])


@pytest.mark.parametrize("steps", [28, "28", 28.0])
async def test_metrics_take_parameters(steps: object) -> None:
    """As quality.METRIC.PARAMETER; what is wrong with one is said of it."""
    parameters = {"quality": "insertion", "quality.insertion.steps": steps, "quality.insertion.baseline": "mean"}
    async with front() as service:
        service.worker.answer = whole
        await stub_of(service).ModelInfer(ask(parameters=parameters, outputs=["quality.average_drop", "saliency"]))
        sent = service.worker.requests[0].image.quality
        violation = Violation("quality.metrics[1].parameters.steps", "must be at least 1")
        service.worker.error = InvalidRequestError("no", (violation,))
        both = {**parameters, "explain": True, "quality": "average_drop,insertion"}
        error = await refused(stub_of(service).ModelInfer(ask(parameters=both)))
    found = [(choice.name, dict(choice.parameters)) for choice in sent.metrics]
    assert found == [("insertion", {"steps": 28, "baseline": "mean"}), ("average_drop", {})]
    assert "parameters.quality.insertion.steps must be at least 1" in str(error.details())


async def test_pictures_are_outputs_when_named() -> None:
    """As BYTES, a picture for each target."""
    async with front() as service:
        service.worker.answer = whole
        response = await stub_of(service).ModelInfer(ask(parameters={"target": 1}, outputs=["overlay_png"]))
        sent = service.worker.requests[0].image.output
    assert (sent.overlay_png, sent.map_png) == (True, False)
    assert tensors(response) == {"overlay_png": ("BYTES", [1, 1], [b"picture"])}


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("batch", [[], [1]], ids=["image", "batch of one"])
async def test_pixels_reach_the_worker_as_they_are(raw: bool, batch: list[int]) -> None:
    """UINT8 of shape (height, width, 3) becomes an image without loss."""
    height, width = 5, 7
    pixels = bytes((7 * value) % 256 for value in range(height * width * 3))
    tensor: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [*batch, height, width, 3]}
    if not raw:
        tensor["contents"] = {"uint_contents": pixels}
    async with front() as service:
        await stub_of(service).ModelInfer(ask(inputs=[tensor], raw_input_contents=[pixels] if raw else []))
        image = Image.open(io.BytesIO(service.worker.requests[0].image.image))
    assert (image.mode, image.size, image.tobytes()) == ("RGB", (width, height), pixels)


def tensor(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "image", "datatype": "BYTES", "shape": [1], **fields}]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": tensor() * 2, "raw_input_contents": [packed(IMAGE)] * 2}, "inputs"),
        ({"inputs": tensor(name="x")}, "inputs[0].name"),
        ({"inputs": tensor(datatype="FP32")}, "inputs[0].datatype"),
        ({"inputs": tensor(shape=[17]), "raw_input_contents": [packed(*[IMAGE] * 17)]}, "inputs[0].shape"),
        ({"inputs": tensor(shape=[1, 2]), "raw_input_contents": [packed(IMAGE, IMAGE)]}, "inputs[0].shape"),
        ({"inputs": tensor(shape=[]), "raw_input_contents": [packed(IMAGE)]}, "inputs[0].shape"),
        ({"inputs": tensor(shape=[2])}, "inputs[0]"),
        ({"inputs": tensor(shape=[2], contents={"bytes_contents": [IMAGE]}), "raw_input_contents": []}, "inputs[0]"),
        ({"inputs": tensor(shape=[2]), "raw_input_contents": [packed(IMAGE, b"")]}, "inputs[0][1]"),
        ({"inputs": tensor(shape=[0])}, "inputs[0].shape"),
        ({"inputs": tensor(contents={"bytes_contents": [IMAGE]})}, "raw_input_contents"),
        ({"raw_input_contents": [packed(IMAGE)] * 2}, "raw_input_contents"),
        ({"raw_input_contents": [b""]}, "inputs[0]"),
        ({"raw_input_contents": [b"x"]}, "raw_input_contents[0]"),
        ({"raw_input_contents": [IMAGE]}, "raw_input_contents[0]"),
        ({"raw_input_contents": [packed(IMAGE) + b"x"]}, "raw_input_contents[0]"),
        ({"raw_input_contents": []}, "inputs[0].contents"),
        ({"raw_input_contents": [packed(b"")]}, "inputs[0]"),
        ({"raw_input_contents": [packed(b"x" * 2000)]}, "inputs[0]"),
        ({"inputs": tensor(datatype="UINT8", shape=[1, 1, 4])}, "inputs[0].shape"),
        ({"inputs": tensor(datatype="UINT8", shape=[17, 1, 1, 3])}, "inputs[0].shape"),
        ({"inputs": tensor(datatype="UINT8", shape=[2, 1, 1, 3]), "raw_input_contents": [b"abc"]}, "inputs[0]"),
        ({"inputs": tensor(datatype="UINT8", shape=[3])}, "inputs[0].shape"),
        ({"inputs": tensor(datatype="UINT8", shape=[-1, -1, 3])}, "inputs[0].shape"),
        ({"inputs": tensor(datatype="UINT8", shape=[20_000, 1, 3])}, "inputs[0].shape"),
        ({"inputs": tensor(datatype="UINT8", shape=[20, 20, 3])}, "inputs[0]"),
        ({"inputs": tensor(datatype="UINT8", shape=[1, 1, 3])}, "inputs[0]"),
        (
            {
                "inputs": tensor(datatype="UINT8", shape=[1, 1, 3], contents={"uint_contents": [1, 2, 256]}),
                "raw_input_contents": [],
            },
            "inputs[0].contents",
        ),
        (
            {"inputs": tensor(parameters={"shared_memory_region": parameter("x")})},
            "inputs[0].parameters.shared_memory_region",
        ),
        ({"outputs": [{"name": "x"}]}, "outputs[0].name"),
        ({"outputs": [{"name": "labels", "parameters": {"classification": parameter(3)}}]}, "outputs[0].parameters"),
    ],
)
async def test_what_is_no_image_of_the_protocol_is_refused(fields: dict[str, Any], field: str) -> None:
    """INVALID_ARGUMENT that names the field, also in the text, which is all that stock clients show."""
    async with front(max_image_bytes=1024) as service:
        error = await refused(stub_of(service).ModelInfer(ask(**fields)))
        assert service.worker.requests == []
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [each.field for each in details(error)["BadRequest"].field_violations] == [field]  # type: ignore[attr-defined]
    assert f"{field} " in str(error.details())


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"method": "x", "explain": True}, "method"),
        ({"method": "grad_cam"}, "method"),
        ({"target": 1}, "target"),
        ({"quality": "insertion"}, "quality"),
        ({"explain": True, "target": len(LABELS)}, "target"),
        ({"explain": True, "target": -1}, "target"),
        ({"explain": True, "target": "bird"}, "target"),
        ({"explain": True, "target": 1.0}, "target"),
        ({"explain": True, "target": 1, "target_top_k": 1}, "target_top_k"),
        ({"explain": True, "target_top_k": 99}, "target_top_k"),
        ({"explain": True, "layer": 3}, "layer"),
        ({"explain": True, "layer": ""}, "layer"),
        ({"explain": True, "samples": 3}, "samples"),
        ({"explain": True, "quality": "x"}, "quality.x"),
        ({"explain": True, "quality": "rank_correlation"}, "compare_with"),
        ({"explain": True, "compare_with": "x"}, "compare_with"),
        ({"explain": True, "quality.insertion.steps": 9}, "quality.insertion.steps"),
        ({"explain": True, "resolution": "x"}, "resolution"),
        ({"explain": "maybe"}, "explain"),
        ({"explain": 1}, "explain"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2**32}, "top_k"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": 0.5}, "timeout"),
        ({"priority": -1}, "priority"),
        ({"sequence_id": 1}, "sequence_id"),
        ({"bad name\n": 1}, "?"),
    ],
)
async def test_a_wrong_parameter_is_named(parameters: dict[str, Any], name: str) -> None:
    """Whoever checks it, the protocol's or explain.v1's part: the field is the parameter's."""
    async with front() as service:
        error = await refused(stub_of(service).ModelInfer(ask(parameters=parameters)))
        assert service.worker.requests == []
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [each.field for each in details(error)["BadRequest"].field_violations] == [f"parameters.{name}"]  # type: ignore[attr-defined]
    assert f"parameters.{name} " in str(error.details())


async def test_no_explanation_and_saliency_contradict_each_other() -> None:
    """explain=false with an output that only explanations have."""
    async with front() as service:
        error = await refused(stub_of(service).ModelInfer(ask(parameters={"explain": False}, outputs=["saliency"])))
    assert "parameters.explain" in str(error.details())


async def test_many_wrong_parameters_still_make_a_status() -> None:
    """A status has to fit into a header: the first few are named."""
    async with front() as service:
        error = await refused(stub_of(service).ModelInfer(ask(parameters={f"{n:060}": 1 for n in range(500)})))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(details(error)["BadRequest"].field_violations) == 8  # type: ignore[attr-defined]


@pytest.mark.parametrize("fields", [{"model_name": "x"}, {"model_version": "9"}])
async def test_unknown_models_and_versions_are_not_found(fields: dict[str, str]) -> None:
    """As in explain.v1."""
    async with front() as service:
        error = await refused(stub_of(service).ModelInfer(ask(**fields)))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_method_that_does_not_work_on_the_model_is_a_failed_precondition() -> None:
    """As in explain.v1."""
    async with front() as service:
        error = await refused(stub_of(service).ModelInfer(ask(parameters={"explain": True, "method": "cam"})))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_the_timeout_is_in_microseconds_and_a_deadline() -> None:
    """With the worker silent, 50 ms are DEADLINE_EXCEEDED long before the call's own deadline; 0 says nothing."""
    async with front() as service:
        service.worker.gate.clear()
        call = stub_of(service).ModelInfer(ask(parameters={"timeout": 50_000, "priority": 1}), timeout=60)
        async with asyncio.timeout(20):
            error = await refused(call)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        service.worker.gate.set()
        await stub_of(service).ModelInfer(ask(parameters={"timeout": 0, "priority": 0}), timeout=60)


async def test_it_goes_the_way_of_explain_v1() -> None:
    """Kept answers, metrics by model and method, and the throttle know it as they know the others."""
    async with front(cache_bytes=1_000_000) as service:
        service.worker.answer = whole
        requests = [ask(parameters={"explain": True, "target": 1}) for _ in range(2)]
        answers = [await stub_of(service).ModelInfer(request) for request in requests]
        assert len(service.worker.requests) == 1
        labels = {"rpc": "ModelInfer", "model": MODEL, "method": "grad_cam", "code": "OK"}
        assert service.metrics.registry.get_sample_value("whylight_requests_total", labels) == 2
    caches = [json.loads(each.parameters["provenance"].string_param)["cache"]["outcome"] for each in answers]
    assert caches == ["CACHE_OUTCOME_MISS", "CACHE_OUTCOME_HIT"]
    assert answers[0].parameters["warnings"].string_param == "LOW_CONFIDENCE"
    assert "/inference.GRPCInferenceService/ModelInfer" in THROTTLED


async def test_bytes_that_are_no_message_are_refused() -> None:
    """As everywhere: INVALID_ARGUMENT, before anybody looks for a model."""
    async with front() as service:
        call = service.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        error = await refused(call(b"\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
