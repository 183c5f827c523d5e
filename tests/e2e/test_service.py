"""The whole way, as a client sees it."""

import io
import json
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

from benchmarks.geometry import energy, on_image
from model_store.digits.samples import SAMPLES_FOLDER, held_out_pairs
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2, types_pb2
from service.launch import Launched

pytestmark = pytest.mark.e2e
MODELS = ("digits-cnn", "digits-vit")
SAMPLES = json.loads((SAMPLES_FOLDER / "samples.json").read_text())
SAMPLE = next(sample for sample in SAMPLES if len(sample["labels"]) == 2)
IMAGE = (SAMPLES_FOLDER / SAMPLE["image"]).read_bytes()


def explain(image: bytes = IMAGE, model: str = "digits-cnn", **fields: object) -> api.ExplainRequest:
    return api.ExplainRequest(model=model, image=image, **fields)


def classes(*indices: int) -> api.Targets:
    return api.Targets(classes=api.ClassList(classes=[api.ClassReference(index=index) for index in indices]))


def values(explanation: types_pb2.Explanation) -> np.ndarray:
    tensor = explanation.map.values
    return np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape))


@pytest.mark.parametrize("model", MODELS)
def test_a_photograph_is_predicted_and_explained(stub: api_grpc.ExplanationServiceStub, model: str) -> None:
    """Both digits are the most probable classes, and the answer carries maps, pictures and provenance."""
    output = api.OutputOptions(overlay_png=True, map_png=True)
    response = stub.Explain(explain(model=model, targets=classes(*SAMPLE["labels"]), output=output))
    assert {score.label for score in response.predictions[:2]} == {str(label) for label in SAMPLE["labels"]}
    assert [each.target.index for each in response.explanations] == SAMPLE["labels"]
    for each in response.explanations:
        grid = values(each)
        assert grid.shape == (each.map.native_height, each.map.native_width)
        assert (grid.min(), grid.max()) == (0.0, 1.0)
        assert not each.map.degenerate
        for png in (each.overlay_png, each.map_png):
            assert Image.open(io.BytesIO(png)).size == (response.image.width, response.image.height)
    assert response.provenance.method.grad_cam.layer == response.provenance.target_layer != ""
    assert response.provenance.weights_digest.startswith("sha256:")
    assert response.timings.compute.ToNanoseconds() > 0


def test_a_map_in_input_resolution_is_the_native_one_interpolated(stub: api_grpc.ExplanationServiceStub) -> None:
    """Both resolutions describe the same map in the pixels of the image."""
    native = stub.Explain(explain())
    fine = stub.Explain(explain(output=api.OutputOptions(resolution=types_pb2.MAP_RESOLUTION_INPUT)))
    assert list(fine.explanations[0].map.values.shape) == [96, 96]
    coarse, exact = (on_image(each.explanations[0].map, each.image) for each in (native, fine))
    assert np.abs(coarse - exact).max() < 0.05


def test_a_prediction_alone_has_no_method(stub: api_grpc.ExplanationServiceStub) -> None:
    """Predict answers with scores that sum to one over all classes."""
    response = stub.Predict(api.PredictRequest(model="digits-cnn", image=IMAGE, top_k=10))
    assert sum(score.probability for score in response.predictions) == pytest.approx(1.0, abs=1e-5)
    assert not response.provenance.HasField("method")


@pytest.mark.parametrize("model", MODELS)
def test_the_map_of_each_digit_lies_on_that_digit(stub: api_grpc.ExplanationServiceStub, model: str) -> None:
    """On held-out photographs with two digits, nine maps of ten have more energy on their own digit."""
    better = []
    for sample in held_out_pairs(30, seed=5, side=128):
        buffer = io.BytesIO()
        Image.fromarray(sample.image).save(buffer, "PNG")
        response = stub.Explain(explain(buffer.getvalue(), model, targets=classes(*sample.labels)))
        maps = [on_image(each.map, response.image) for each in response.explanations]
        better.append(energy(maps[0], sample.masks[0]) > energy(maps[0], sample.masks[1]))
        better.append(energy(maps[1], sample.masks[1]) > energy(maps[1], sample.masks[0]))
    assert np.mean(better) > 0.9


def png(width: int, height: int) -> bytes:
    """A one-bit PNG: large in pixels, small in bytes."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def unknown_method() -> method_pb2.Method:
    """A method of a later version of the API: a field that this server does not know."""
    return method_pb2.Method.FromString(b"\xaa\x3f\x00")


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (explain(b"no image at all"), grpc.StatusCode.INVALID_ARGUMENT, "image"),
        (explain(b""), grpc.StatusCode.INVALID_ARGUMENT, "image"),
        (explain(IMAGE[: len(IMAGE) // 2]), grpc.StatusCode.INVALID_ARGUMENT, "image"),
        (explain(png(30_000, 30_000)), grpc.StatusCode.INVALID_ARGUMENT, "image"),
        (explain(targets=classes(10)), grpc.StatusCode.INVALID_ARGUMENT, "targets.classes[0].index"),
        (explain(method=method_pb2.Method(grad_cam=method_pb2.GradCam(layer="no.such.layer"))),
         grpc.StatusCode.INVALID_ARGUMENT, "method.grad_cam.layer"),
        (explain(method=unknown_method()), grpc.StatusCode.INVALID_ARGUMENT, "method"),
        (explain(model="nobody"), grpc.StatusCode.NOT_FOUND, None),
        (explain(model="digits-vit", method=method_pb2.Method(cam=method_pb2.Cam())),
         grpc.StatusCode.FAILED_PRECONDITION, None),
    ],
    ids=["not-an-image", "empty", "truncated", "900-megapixels", "class", "layer", "method", "model", "not-applicable"],
)  # fmt: skip
def test_bad_input_gets_its_status_and_the_next_request_works(
    stub: api_grpc.ExplanationServiceStub, request_: api.ExplainRequest, code: grpc.StatusCode, field: str | None
) -> None:
    """Each kind of bad input has its status and details, and does no harm."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Explain(request_)
    assert caught.value.code() is code
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    bad = error_details_pb2.BadRequest()
    violations = [item.field for each in status.details if each.Unpack(bad) for item in bad.field_violations]
    assert violations == ([field] if field else [])
    assert "/" not in caught.value.details()
    assert stub.Explain(explain()).explanations


def test_mixed_requests_at_once_equal_the_same_ones_in_turn(stub: api_grpc.ExplanationServiceStub) -> None:
    """Batching by the worker never shows in an answer, also with bad neighbours."""
    requests = [
        explain(model=model, targets=classes(index), top_k=10, no_cache=True) for model in MODELS for index in range(10)
    ] + [explain(b"bad neighbour")] * 4

    def call(request: api.ExplainRequest) -> api.ExplainResponse | None:
        try:
            return stub.Explain(request)
        except grpc.RpcError:
            return None

    serial = [call(request) for request in requests]
    with ThreadPoolExecutor(16) as pool:
        parallel = list(pool.map(call, requests))
    for one, other in zip(serial, parallel, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert [score.index for score in one.predictions] == [score.index for score in other.predictions]
            np.testing.assert_allclose(values(one.explanations[0]), values(other.explanations[0]), atol=1e-4)
    assert parallel[-1] is None


def test_models_and_methods_tell_what_works(stub: api_grpc.ExplanationServiceStub) -> None:
    """Both default models are ready, and only the network with a linear head on pooled maps allows CAM."""
    models = stub.ListModels(api.ListModelsRequest()).models
    assert [model.name for model in models] == list(MODELS)
    assert all(model.state == types_pb2.MODEL_STATE_READY for model in models)
    methods = {method.name: list(method.models) for method in stub.ListMethods(api.ListMethodsRequest()).methods}
    assert methods["grad_cam"] == list(MODELS)
    assert methods["cam"] == ["digits-cnn"]
    model = stub.GetModel(api.GetModelRequest(model="digits-vit")).model
    assert list(model.labels) == [str(digit) for digit in range(10)]
    assert model.target_layer.path in [layer.path for layer in model.layers]


def test_every_listed_layer_can_be_explained(stub: api_grpc.ExplanationServiceStub) -> None:
    """What GetModel names as a layer, Explain accepts."""
    layers = stub.GetModel(api.GetModelRequest(model="digits-cnn")).model.layers
    for layer in layers[::5]:
        method = method_pb2.Method(grad_cam=method_pb2.GradCam(layer=layer.path))
        response = stub.Explain(explain(method=method))
        assert list(response.explanations[0].map.values.shape) == [layer.height, layer.width]


def test_health_and_reflection_answer(channel: grpc.Channel) -> None:
    """Health is SERVING for the service and each model, and a stock tool can list the API."""
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "explain.v1.ExplanationService", *(f"models/{model}" for model in MODELS)):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
    names = [each.name for each in next(answers).list_services_response.service]
    assert "explain.v1.ExplanationService" in names


def test_metrics_are_exported(service: Launched, stub: api_grpc.ExplanationServiceStub) -> None:
    """Request, stage and queue histograms are there by model and method."""
    stub.Explain(explain())
    text = urllib.request.urlopen(service.metrics, timeout=10).read().decode()  # noqa: S310 - our own address
    labels = 'method="grad_cam",model="digits-cnn",rpc="Explain"'
    assert f"whylight_request_duration_seconds_count{{{labels}}}" in text
    assert f'whylight_stage_duration_seconds_count{{{labels},stage="compute"}}' in text
    assert 'whylight_queue_duration_seconds_count{method="grad_cam",model="digits-cnn"}' in text
    assert 'whylight_ready_workers{lane="predict",model="digits-cnn"} 1.0' in text


def whylight(service: Launched, *words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "service", *map(str, words), "--address", service.address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_explains_an_image(service: Launched, tmp_path: Path) -> None:
    """`whylight explain` prints the classes and writes an overlay for each target."""
    done = whylight(
        service, "explain", SAMPLES_FOLDER / SAMPLE["image"], "--model", "digits-cnn", "--top-k", 2, "-o",
        tmp_path / "why.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"why_{label}.png" for label in SAMPLE["labels"]}


def test_the_command_line_says_what_is_wrong(service: Launched, tmp_path: Path) -> None:
    """An unreadable file, a wrong class and a wrong method each end with 1 and a sentence."""
    image = SAMPLES_FOLDER / SAMPLE["image"]
    for words, text in (
        ((tmp_path / "none.png", "--model", "digits-cnn"), "cannot read the image"),
        ((image, "--model", "digits-cnn", "--target", "77"), "targets.classes[0].index"),
        ((image, "--model", "digits-cnn", "--method", "magic"), "no method"),
    ):
        done = whylight(service, "explain", *words)
        assert done.returncode == 1
        assert text in done.stderr
        assert "Traceback" not in done.stderr


def test_the_command_line_lists_models_and_methods(service: Launched) -> None:
    """`whylight models` and `whylight methods` print tables."""
    assert "digits-vit" in whylight(service, "models").stdout
    assert "grad_cam" in whylight(service, "methods").stdout


def test_the_log_holds_nothing_of_the_user(service: Launched) -> None:
    """After all of the above, the service's log has no traceback and no text that came from a client."""
    log = service.log.read_text()
    for word in ("Traceback", "no.such.layer", "nobody", "bad neighbour"):
        assert word not in log
