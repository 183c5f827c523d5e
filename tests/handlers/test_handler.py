"""The handler as TorchServe calls it: batches of bytes in, as many answers out, each with its own status."""

import inspect
import io
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from explainers import METHODS
from handlers import entry, faults, torchserve_handler
from handlers.faults import DeviceLostError
from handlers.loading import LoadError
from handlers.torchserve_handler import TorchServeHandler
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from protos.worker.v1.worker_pb2 import WorkRequest, WorkResponse
from tests.handlers.pictures import black_png, encode, flat, photograph
from tests.tiny import LABELS, sha256, unpack, write_tiny

OK = worker_pb2.WORK_STATUS_OK
INVALID = worker_pb2.WORK_STATUS_INVALID_ARGUMENT
PHOTO = encode(photograph())
GRAD_CAM = method_pb2.Method(grad_cam=method_pb2.GradCam())
VISIBLE = 2  # a class whose map is not degenerate on PHOTO
ALL = api.OutputOptions(map_png=True, overlay_png=True)


def start(folder: Path) -> TorchServeHandler:
    handler = TorchServeHandler()
    handler.initialize(SimpleNamespace(system_properties={"model_dir": str(folder), "gpu_id": None}))
    return handler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked archive whose network fails over white images and runs out of memory over black ones."""
    path = tmp_path_factory.mktemp("fussy")
    return unpack(write_tiny(path, "Fussy"), path)


@pytest.fixture
def handler(folder: Path) -> TorchServeHandler:
    """A handler that has loaded it."""
    return start(folder)


def work(image: bytes = PHOTO, method: method_pb2.Method | None = None, **fields: Any) -> WorkRequest:
    item = worker_pb2.ImageWork(image=image, **{"top_k": 2, **fields})
    if method is not None:
        item.method.CopyFrom(method)
    return WorkRequest(request_id="r-1", image=item)


def ask(handler: TorchServeHandler, *requests: WorkRequest | bytes | None) -> list[WorkResponse]:
    bodies = [request.SerializeToString() if isinstance(request, WorkRequest) else request for request in requests]
    answers = handler.handle([{"body": bytearray(body) if body is not None else None} for body in bodies], None)
    return [WorkResponse.FromString(answer) for answer in answers]


class Counted:
    """Counts the passes that a network does."""

    def __init__(self, handler: TorchServeHandler, monkeypatch: pytest.MonkeyPatch) -> None:
        assert handler._worker is not None
        network = handler._worker.model.network
        self.batches: list[int] = []
        for name in ("predict", "record"):
            monkeypatch.setattr(network, name, self._counting(getattr(network, name)))

    def _counting(self, function: Any) -> Any:
        def counting(images: Tensor, *others: Any) -> Any:
            self.batches.append(len(images))
            return function(images, *others)

        return counting


def test_prediction(handler: TorchServeHandler) -> None:
    """The most probable classes with their labels, what was understood of the image, and the times."""
    (answer,) = ask(handler, work(top_k=3))
    assert (answer.status, answer.reason, answer.message) == (OK, "", "")
    result = answer.image
    assert len(result.predictions) == 3
    assert [score.label for score in result.predictions] == [LABELS[score.index] for score in result.predictions]
    probabilities = [score.probability for score in result.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert (result.image.width, result.image.height, result.image.format) == (64, 48, "PNG")
    assert not result.explanations
    assert not result.HasField("resolved_method")
    assert result.handler.ToNanoseconds() >= result.decode.ToNanoseconds() + result.compute.ToNanoseconds() > 0


def test_explanation(handler: TorchServeHandler) -> None:
    """One map for each target in the order asked for, and the method with its layer filled in."""
    (answer,) = ask(handler, work(method=GRAD_CAM, class_indices=[4, 1]))
    result = answer.image
    assert [item.target.index for item in result.explanations] == [4, 1]
    assert result.resolved_method.grad_cam.layer == result.target_layer == "last"
    saliency = result.explanations[0].map
    assert list(saliency.values.shape) == [8, 8] == [saliency.native_height, saliency.native_width]
    assert saliency.resolution == types_pb2.MAP_RESOLUTION_NATIVE
    assert (saliency.map_to_image.xx, saliency.map_to_image.yy) == (64 / 8, 48 / 8)
    values = np.frombuffer(saliency.values.data, "<f4")
    assert (values.min(), values.max()) == (0.0, 1.0)
    assert not result.explanations[0].map_png
    assert not result.explanations[0].overlay_png


def test_pictures(handler: TorchServeHandler) -> None:
    """In the size of the image; in its own colours with opacity 0."""
    see_through = api.OutputOptions(map_png=True, overlay_png=True, overlay_opacity=0)
    (answer,) = ask(handler, work(method=GRAD_CAM, class_indices=[VISIBLE], output=see_through))
    drawn = answer.image.explanations[0]
    overlay = Image.open(io.BytesIO(drawn.overlay_png), formats=["PNG"])
    assert (np.asarray(overlay) == np.asarray(photograph())).all()
    grey = Image.open(io.BytesIO(drawn.map_png), formats=["PNG"])
    assert (grey.mode, grey.size) == ("L", (64, 48))


def test_input_resolution(handler: TorchServeHandler) -> None:
    """The map at the size of the network's input, with the affine map of that grid."""
    output = api.OutputOptions(resolution=types_pb2.MAP_RESOLUTION_INPUT)
    saliency = ask(handler, work(method=GRAD_CAM, output=output))[0].image.explanations[0].map
    assert list(saliency.values.shape) == [32, 32]
    assert (saliency.native_height, saliency.native_width) == (8, 8)
    assert saliency.resolution == types_pb2.MAP_RESOLUTION_INPUT
    assert (saliency.map_to_image.xx, saliency.map_to_image.yy) == (2.0, 1.5)


def test_a_map_fused_over_layers_lies_on_the_grid_of_the_largest(handler: TorchServeHandler) -> None:
    """Wherever it says so: shape, native size, the way to the image, both resolutions and the pictures."""
    layer_cam = method_pb2.Method(layer_cam=method_pb2.LayerCam(further_layers=["first"]))
    enlarged = api.OutputOptions(resolution=types_pb2.MAP_RESOLUTION_INPUT)
    native, at_input = ask(
        handler,
        work(method=layer_cam, class_indices=[VISIBLE], output=ALL),
        work(method=layer_cam, class_indices=[VISIBLE], output=enlarged),
    )
    assert native.image.target_layer == "last"
    assert native.image.resolved_method.layer_cam == method_pb2.LayerCam(layer="last", further_layers=["first"])
    (item,) = native.image.explanations
    assert list(item.map.values.shape) == [16, 16] == [item.map.native_height, item.map.native_width]
    assert (item.map.map_to_image.xx, item.map.map_to_image.yy) == (64 / 16, 48 / 16)
    (large,) = at_input.image.explanations
    assert list(large.map.values.shape) == [32, 32]
    assert (large.map.native_height, large.map.map_to_image.xx, large.map.map_to_image.yy) == (16, 2.0, 1.5)
    grey = np.asarray(Image.open(io.BytesIO(item.map_png), formats=["PNG"]))
    row, column = np.unravel_index(np.frombuffer(item.map.values.data, "<f4").argmax(), (16, 16))
    assert grey[3 * row : 3 * row + 3, 4 * column : 4 * column + 4].max() >= grey.max() - 1


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (["nowhere"], "UNKNOWN_LAYER"),
        (["last"], "INVALID_PARAMETER"),
        (["first", "first"], "INVALID_PARAMETER"),
        (list("abcdefghi"), "INVALID_PARAMETER"),
    ],
)
def test_further_layers_that_are_refused(handler: TorchServeHandler, layers: list[str], reason: str) -> None:
    """Unknown ones, the target layer again, one twice, too many: the answer names the field."""
    (answer,) = ask(handler, work(method=method_pb2.Method(layer_cam=method_pb2.LayerCam(further_layers=layers))))
    assert (answer.status, answer.reason) == (INVALID, reason)
    assert [violation.field for violation in answer.violations] == ["method.layer_cam.further_layers"]


def test_degenerate_map_is_not_drawn(tmp_path: Path) -> None:
    """A constant map is sent as zeros, marked, and there is no picture of it."""
    manifest = write_tiny(tmp_path)
    weights = tmp_path / "tiny.safetensors"
    digest = sha256(weights)
    save_file({name: torch.zeros_like(value) for name, value in load_file(weights).items()}, weights)
    manifest.write_text(manifest.read_text().replace(digest, sha256(weights)))
    handler = start(unpack(manifest, tmp_path))
    (answer,) = ask(handler, work(method=GRAD_CAM, output=ALL))
    (item,) = answer.image.explanations
    assert (answer.status, item.map.degenerate, item.map_png, item.overlay_png) == (OK, True, b"", b"")
    assert not any(item.map.values.data)


def test_describe(handler: TorchServeHandler) -> None:
    """Everything that the service's catalogue needs, but for the state."""
    (answer,) = ask(handler, WorkRequest(describe=worker_pb2.DescribeWork()))
    model = answer.description.model
    assert (model.name, model.version, model.architecture) == ("tiny", "1.2", "python:tiny.py:Fussy")
    assert (model.input_height, model.input_width, model.class_count) == (32, 32, 5)
    assert list(model.labels) == list(LABELS)
    assert model.weights_digest.startswith("sha256:")
    assert (model.target_layer.path, model.target_layer.channels, model.target_layer.height) == ("last", 8, 8)
    assert "last" in [layer.path for layer in model.layers]
    assert {support.method for support in model.methods} == set(METHODS)
    assert all(support.supported != bool(support.reason) for support in model.methods)
    assert set(model.library_versions) == {"torch", "numpy", "pillow", "whylight"}
    assert model.device == "cpu"
    assert model.activation == types_pb2.ACTIVATION_SOFTMAX
    assert [method.name for method in answer.description.methods] == list(METHODS)


def test_method_that_does_not_apply(tmp_path: Path) -> None:
    """CAM behind a head of two layers: named in the description, and refused on request."""
    handler = start(unpack(write_tiny(tmp_path, "TwoLayers"), tmp_path))
    cam = method_pb2.Method(cam=method_pb2.Cam())
    description, refused, good = ask(
        handler, WorkRequest(describe=worker_pb2.DescribeWork()), work(method=cam), work(method=GRAD_CAM)
    )
    support = {each.method: each for each in description.description.model.methods}
    assert not support["cam"].supported
    assert (refused.status, refused.reason) == (worker_pb2.WORK_STATUS_NOT_APPLICABLE, "METHOD_NOT_APPLICABLE")
    assert refused.message == support["cam"].reason
    assert good.status == OK


def test_bad_items_leave_their_neighbours_alone(handler: TorchServeHandler, caplog: pytest.LogCaptureFixture) -> None:
    """Every way to fail in one batch, between good items whose answers are those that they get alone."""
    layer = method_pb2.Method(grad_cam=method_pb2.GradCam(layer="no.such.layer"))
    late = work()
    late.deadline.FromSeconds(1)
    good = [work(), work(method=GRAD_CAM, output=ALL, class_indices=[VISIBLE])]
    bad: list[tuple[WorkRequest | bytes | None, int, str, str]] = [
        (work(b""), INVALID, "IMAGE_EMPTY", "image"),
        (work(b"hello"), INVALID, "IMAGE_FORMAT", "image"),
        (work(encode(photograph(), "JPEG")[:700]), INVALID, "IMAGE_TRUNCATED", "image"),
        (work(black_png(30_000, 2_000)), INVALID, "IMAGE_TOO_LARGE", "image"),
        (work(method=layer), INVALID, "UNKNOWN_LAYER", "method.grad_cam.layer"),
        (work(method=method_pb2.Method()), INVALID, "UNKNOWN_METHOD", "method"),
        (work(method=GRAD_CAM, class_indices=[0, 5]), INVALID, "INVALID_TARGET", "targets.classes[1].index"),
        (work(flat(255), GRAD_CAM), worker_pb2.WORK_STATUS_INTERNAL, "INTERNAL", ""),
        (work(flat(0), GRAD_CAM), worker_pb2.WORK_STATUS_RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", ""),
        (work(flat(255)), worker_pb2.WORK_STATUS_INTERNAL, "INTERNAL", ""),
        (late, worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", ""),
        (WorkRequest(), INVALID, "INVALID_REQUEST", ""),
        (b"\xff\xff", INVALID, "MALFORMED_REQUEST", ""),
        (None, INVALID, "MALFORMED_REQUEST", ""),
    ]
    batch: list[WorkRequest | bytes | None] = []
    for request, *_ in bad:
        batch += [good[0], request, good[1]]
    answers = ask(handler, *batch)
    for answer, (_, status, reason, field) in zip(answers[1::3], bad, strict=True):
        assert (answer.status, answer.reason) == (status, reason)
        assert [violation.field for violation in answer.violations] == ([field] if field else [])
        assert answer.message
        assert "Traceback" not in answer.message
    alone = [ask(handler, request)[0].image for request in good]
    for position, expected in enumerate(alone):
        for answer in answers[2 * position :: 3]:
            assert_same(answer.image, expected)
    assert "white" not in caplog.text  # the exception's own text, which may be made of the user's data
    assert "request r-1 failed: RuntimeError < forward:" in caplog.text
    assert "Traceback" not in caplog.text


def assert_same(result: worker_pb2.ImageResult, expected: worker_pb2.ImageResult) -> None:
    """Equal but for rounding and times."""
    assert [score.index for score in result.predictions] == [score.index for score in expected.predictions]
    for score, other in zip(result.predictions, expected.predictions, strict=True):
        assert score.logit == pytest.approx(other.logit, abs=1e-5)
    for item, other_item in zip(result.explanations, expected.explanations, strict=True):
        values, other_values = (np.frombuffer(each.map.values.data, "<f4") for each in (item, other_item))
        np.testing.assert_allclose(values, other_values, atol=1e-4)
        assert item.overlay_png


def test_equal_work_shares_a_pass(handler: TorchServeHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions are one batch; so are equal methods, whether a default is written out or not."""
    counted = Counted(handler, monkeypatch)
    written_out = method_pb2.Method(grad_cam=method_pb2.GradCam(layer="last"))
    other = method_pb2.Method(grad_cam=method_pb2.GradCam(layer="first"))
    requests = [work(method=GRAD_CAM), work(), work(method=written_out), work(), work(method=other), work()]
    assert [answer.status for answer in ask(handler, *requests)] == [OK] * 6
    assert counted.batches == [2, 3, 1]


def test_nothing_is_computed_after_the_deadline(handler: TorchServeHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for an item that is late already, nor for one that becomes late while others are computed."""
    counted = Counted(handler, monkeypatch)
    late, soon = work(), work(method=GRAD_CAM)
    late.deadline.FromMilliseconds(int(time.time() * 1000) - 1)
    soon.deadline.FromMilliseconds(int(time.time() * 1000) + 60_000)
    minute_later = SimpleNamespace(time=lambda: time.time() + 61, time_ns=time.time_ns, perf_counter=time.perf_counter)
    monkeypatch.setattr("handlers.waiting.time", minute_later)
    assert [answer.status for answer in ask(handler, late, soon, work())] == [
        worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED,
        worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED,
        OK,
    ]
    assert counted.batches == [1]


def test_unusable_scores_are_a_fault(
    handler: TorchServeHandler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not-a-number is never sent as a probability."""
    assert handler._worker is not None
    nan = torch.full((1, 5), torch.nan)
    monkeypatch.setattr(handler._worker.model.network, "predict", lambda images: nan.expand(len(images), 5))
    (answer,) = ask(handler, work())
    assert (answer.status, answer.message) == (worker_pb2.WORK_STATUS_INTERNAL, "internal error")
    assert "ArithmeticError < _explain:" in caplog.text


def test_too_large_an_answer_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchServe would kill the worker over it."""
    monkeypatch.setenv("WHYLIGHT_MAX_RESPONSE_BYTES", "2000")
    small, large = ask(start(folder), work(), work(method=GRAD_CAM, class_indices=[VISIBLE], output=ALL))
    assert small.status == OK
    assert (large.status, large.reason) == (INVALID, "RESPONSE_TOO_LARGE")


def test_large_images_are_drawn_smaller(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The affine map still leads to the pixels of the image that was sent."""
    monkeypatch.setenv("WHYLIGHT_MAX_RENDER_SIDE", "100")
    request = work(encode(photograph(150, 400)), GRAD_CAM, class_indices=[VISIBLE], output=ALL)
    (answer,) = ask(start(folder), request)
    (item,) = answer.image.explanations
    for data in (item.map_png, item.overlay_png):
        assert Image.open(io.BytesIO(data), formats=["PNG"]).size == (100, 38)
    assert item.map.map_to_image.xx == 400 / 8


def test_log_lines_cannot_be_forged(handler: TorchServeHandler, caplog: pytest.LogCaptureFixture) -> None:
    """A request id is printed on one line, whatever it holds."""
    request = work(flat(255))
    request.request_id = "a\nERROR forged\x1b[31m" + "x" * 1000
    ask(handler, request)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "\n" not in record.getMessage()
    assert "x" * 100 not in record.getMessage()


def test_body_under_either_name(handler: TorchServeHandler) -> None:
    """REST gives "body", gRPC gives "data"."""
    body = work().SerializeToString()
    for item in ({"body": body}, {"data": bytearray(body)}):
        assert WorkResponse.FromString(handler.handle([item], None)[0]).status == OK


def test_empty_batch(handler: TorchServeHandler) -> None:
    """As many answers as requests."""
    assert handler.handle([], None) == []


def test_lost_gpu_ends_the_worker(handler: TorchServeHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the process can use it again; TorchServe starts another."""

    class Ended(BaseException):
        pass

    def end(status: int) -> None:
        assert status == torchserve_handler.EXIT_DEVICE_LOST
        raise Ended

    def lost(_: Any) -> None:
        raise DeviceLostError

    monkeypatch.setattr("handlers.batch.release_memory", lost)
    monkeypatch.setattr(torchserve_handler.os, "_exit", end)
    with pytest.raises(Ended):
        ask(handler, work(flat(255)))


def onnx_error(text: str) -> Exception:
    """As ONNX Runtime raises it."""
    module = "onnxruntime.capi.onnxruntime_pybind11_state"
    error: Exception = type("RuntimeException", (Exception,), {"__module__": module})(text)
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (onnx_error("Failed to allocate memory for requested buffer of size 9"), True),
        (onnx_error("another"), False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory(error: Exception, expected: bool) -> None:
    """The ways in which memory runs out."""
    assert faults.is_out_of_memory(error) is expected


def test_refused_archive(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TorchServe's log says why in one line."""
    for file in folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(LoadError):
        start(tmp_path)
    assert "model refused: tiny: sha256 of the weights" in caplog.text


def test_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several workers on one machine share its cores."""
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    start(folder)
    monkeypatch.setenv("WHYLIGHT_THREADS", "3")
    start(folder)
    assert chosen == [3]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny", [3]),
        ("tiny--fast", [3]),
        ("tiny--slow", [1, "nice", 10]),
        ("tiny--quality", [1, "nice", 19]),
    ],
)
def test_workers_step_back(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: list[Any]) -> None:
    """One that measures quality is as nice as can be, one of slow maps nicer than the others, on two processors."""
    chosen: list[Any] = []
    monkeypatch.setattr(torchserve_handler, "PROCESSORS", 2)
    monkeypatch.setenv("WHYLIGHT_THREADS", "3")
    monkeypatch.setattr(torchserve_handler.os, "nice", lambda niceness: chosen.extend(["nice", niceness]))
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    properties = {"model_dir": str(folder), "gpu_id": None}
    TorchServeHandler().initialize(SimpleNamespace(system_properties=properties, model_name=name))
    assert chosen == expected


def test_entry_is_the_only_class_of_its_file() -> None:
    """TorchServe refuses a handler file with any other number."""
    own = [value for _, value in inspect.getmembers(entry, inspect.isclass) if value.__module__ == entry.__name__]
    assert own == [entry.Entry]


def test_nothing_of_a_request_stays(handler: TorchServeHandler) -> None:
    """The handler holds the model and the limits."""
    before = set(vars(handler)) | set(vars(handler._worker))
    ask(handler, work(method=GRAD_CAM, output=ALL))
    assert set(vars(handler)) | set(vars(handler._worker)) == before


def test_before_initialize() -> None:
    """A mistake of TorchServe, not of a client."""
    with pytest.raises(RuntimeError, match="initialize"):
        TorchServeHandler().handle([], None)


@pytest.mark.parametrize(
    "method",
    [
        method_pb2.Method(opti_cam=method_pb2.OptiCam(steps=1000)),
        method_pb2.Method(rise=method_pb2.Rise(samples=20000)),
        method_pb2.Method(kernel_shap=method_pb2.KernelShap(samples=20000)),
    ],
    ids=lambda method: method.WhichOneof("method"),
)
def test_a_long_method_ends_at_the_deadline(handler: TorchServeHandler, method: method_pb2.Method) -> None:
    """Nobody waits for the other steps, so they are not computed, and the next request is answered."""
    request = work(method=method)
    request.deadline.FromNanoseconds(int((time.time() + 0.3) * 1e9))
    started = time.perf_counter()
    (late,) = ask(handler, request)
    assert late.status == worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED
    assert time.perf_counter() - started < 2
    (good,) = ask(handler, work(method=GRAD_CAM))
    assert good.status == OK


def test_the_answer_says_what_it_depends_on(handler: TorchServeHandler) -> None:
    """Two encodings of the same pixels have the same digest; other pixels, and a picture of them, have others."""
    picture = photograph()
    flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    files = [encode(picture), encode(picture, "BMP"), encode(flipped)]
    plain = [answer.image for answer in ask(handler, *(work(data, GRAD_CAM) for data in files))]
    drawn = [answer.image for answer in ask(handler, *(work(data, GRAD_CAM, output=ALL) for data in files))]
    for answers in (plain, drawn):
        assert answers[0].content_digest == answers[1].content_digest != answers[2].content_digest
    assert plain[0].content_digest != drawn[0].content_digest
    assert [answer.image.format for answer in plain] == ["PNG", "BMP", "PNG"]
    assert plain[0].weights_digest.startswith("sha256:")
