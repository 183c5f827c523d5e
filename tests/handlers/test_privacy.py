"""No text of a worker's answer and no line of its log holds what was in a request: not in any way to fail."""

import logging
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin

from explainers import ImageResult
from handlers import batch
from handlers.loading import load_model
from handlers.settings import Limits
from handlers.worker import Worker
from protos.worker.v1 import worker_pb2
from tests.handlers.pictures import encode, photograph
from tests.tiny import unpack, write_tiny

MARK = "Zzyzx-Jane-Doe-1970"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """In a folder with a telling name."""
    folder = tmp_path_factory.mktemp(MARK)
    model = load_model(unpack(write_tiny(folder), folder), torch.device("cpu"))
    return Worker(model, Limits(max_image_bytes=1_000_000, max_pixels=10_000))


def marked() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", MARK)
    return info


def with_exif(image_format: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = MARK  # ImageDescription
    exif[0x013B] = f"/home/{MARK}.dcm"  # Artist
    return encode(photograph(), image_format, exif=exif.tobytes())


GOOD = encode(photograph(), pnginfo=marked())
NO_IMAGES = {
    "text": MARK.encode(),
    "PNG with text, cut": GOOD[:-200],
    "PNG with text, damaged": GOOD.replace(b"IDAT", b"IDAX"),
    "PNG with text, too large": encode(photograph(200, 200), pnginfo=marked()),
    "JPEG with EXIF, cut": with_exif("JPEG")[:-300],
    "WebP with EXIF, cut": with_exif("WEBP")[:-30],
    "TIFF with text": encode(photograph(), "TIFF", description=MARK),
    "GIF with a comment": encode(photograph(), "GIF", comment=MARK.encode()),
    "a path": f"/home/{MARK}.png".encode(),
    "BMP": b"BM" + struct.pack("<I", 99) + MARK.encode() * 10,
}
Change = Callable[[worker_pb2.ImageWork], object]
FIELDS: dict[str, Change] = {
    "layer": lambda work: setattr(work.method.grad_cam, "layer", MARK),
    "further layer": lambda work: work.method.layer_cam.further_layers.append(f"/{MARK}"),
    "choice": lambda work: setattr(work.method.extremal_perturbation, "perturbation", MARK),
    "metric": lambda work: work.quality.metrics.add(name=MARK),
    "parameter of a metric": lambda work: work.quality.metrics.add(name="insertion").parameters.update({MARK: MARK}),
    "value of a metric": lambda work: work.quality.metrics.add(name="insertion").parameters.update({"steps": MARK}),
    "layer to compare with": lambda work: setattr(work.quality.compare_with.grad_cam, "layer", MARK),
}


def check(worker: Worker, caplog: pytest.LogCaptureFixture, body: bytes) -> worker_pb2.WorkResponse:
    with caplog.at_level(logging.DEBUG):
        answer = worker_pb2.WorkResponse.FromString(worker.answer([body])[0])
    assert answer.status != worker_pb2.WORK_STATUS_OK
    for text in (str(answer), caplog.text):
        for trace in (MARK, "Traceback", 'File "', "/home", "site-packages", str(Path(__file__).parents[2])):
            assert trace not in text, text
    return answer


def request(work: worker_pb2.ImageWork) -> bytes:
    return worker_pb2.WorkRequest(request_id="r-1", image=work).SerializeToString()


@pytest.mark.parametrize("name", NO_IMAGES)
def test_a_refused_image_s_text_is_nowhere(name: str, worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """Neither its metadata nor its bytes; Pillow's own words, which may quote them, neither."""
    answer = check(worker, caplog, request(worker_pb2.ImageWork(image=NO_IMAGES[name], top_k=1)))
    assert answer.status == worker_pb2.WORK_STATUS_INVALID_ARGUMENT


@pytest.mark.parametrize("name", FIELDS)
def test_a_refused_field_s_text_is_nowhere(name: str, worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """The answer names the field, not what was in it."""
    work = worker_pb2.ImageWork(image=GOOD, top_k=1)
    if not name.startswith("choice"):
        work.method.grad_cam.SetInParent()
    FIELDS[name](work)
    answer = check(worker, caplog, request(work))
    assert answer.status == worker_pb2.WORK_STATUS_INVALID_ARGUMENT
    assert answer.violations


def test_bytes_that_are_no_request_are_nowhere(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """protobuf's own words neither."""
    check(worker, caplog, b"\xff" + MARK.encode())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(MARK),
        OSError(2, "No such file", f"/home/{MARK}.png"),
        KeyError(MARK),
        ExceptionGroup(MARK, [KeyError(MARK)]),
        MemoryError(MARK),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_s_text_is_nowhere(
    error: Exception, worker: Worker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has the place and the kind of a fault, under the request's id."""

    def failing(*_: object) -> list[ImageResult]:
        raise error

    monkeypatch.setattr(batch, "_explain", failing)
    check(worker, caplog, request(worker_pb2.ImageWork(image=GOOD, top_k=1)))
    assert "r-1" in caplog.text
