"""A worker whose model is an ONNX file: what it says of itself, what it answers, what it refuses."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from explainers import METHODS, Network, TopK
from handlers.describe import describe
from handlers.loading import ArchitectureError, DigestError, load_model
from handlers.sanity import check
from handlers.torchserve_handler import TorchServeHandler
from protos.explain.v1 import method_pb2
from protos.worker.v1 import worker_pb2
from tests.handlers.test_handler import PHOTO, ask, start, work
from tests.onnx_files import write_tiny_onnx
from tests.tiny import SIDE, tiny_network, unpack, write_tiny

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CPU = torch.device("cpu")
SCORE_CAM = method_pb2.Method(score_cam=method_pb2.ScoreCam())
GRADIENT = method_pb2.Method(gradient=method_pb2.Gradient())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked archive of an ONNX file."""
    path = tmp_path_factory.mktemp("onnx")
    return unpack(write_tiny_onnx(path), path)


@pytest.fixture(scope="module")
def handler(folder: Path) -> TorchServeHandler:
    return start(folder)


def test_description(handler: TorchServeHandler) -> None:
    """The layer has the tensor's name; each method that does not work says why; the library is named."""
    assert handler._worker is not None
    model = describe(handler._worker.model).model
    assert model.architecture == "onnx:net.onnx"
    assert (model.target_layer.channels, model.target_layer.height, model.target_layer.width) == (8, 8, 8)
    assert next(layer.path for layer in model.layers) == model.target_layer.path == "/Relu_1_output_0"
    assert model.library_versions["onnxruntime"]
    reasons = {each.method: each.reason for each in model.methods if not each.supported}
    assert {"gradient", "opti_cam", "lrp", "tibav", "guided_backprop"} <= reasons.keys()
    assert all(reasons.values())
    assert {"cam", "grad_cam", "score_cam", "rise"} <= METHODS.keys() - reasons.keys()


@pytest.mark.parametrize("method", [None, SCORE_CAM])
def test_answers(tmp_path: Path, method: method_pb2.Method | None) -> None:
    """As a worker of the same network in torch, at the layer that it explains; they say who computed them."""
    manifest = write_tiny_onnx(tmp_path / "onnx", extra='target_layer = "/last/Conv_output_0"')
    (answer,) = ask(start(unpack(manifest, tmp_path / "onnx")), work(method=method, top_k=5))
    (other,) = ask(start(unpack(write_tiny(tmp_path), tmp_path)), work(method=method, top_k=5))
    assert (answer.image.runtime, other.image.runtime) == ("onnxruntime", "torch")
    for one, two in zip(answer.image.predictions, other.image.predictions, strict=True):
        assert one.index == two.index
        assert one.logit == pytest.approx(two.logit, abs=1e-4)
    maps = [
        [np.frombuffer(item.map.values.data, "<f4") for item in each.image.explanations] for each in (answer, other)
    ]
    assert len(maps[0]) == (0 if method is None else 1)
    assert np.allclose(*maps, rtol=0, atol=1e-3)


def test_a_method_that_needs_gradients(handler: TorchServeHandler) -> None:
    (refused,) = ask(handler, work(PHOTO, GRADIENT))
    assert (refused.status, refused.reason) == (worker_pb2.WORK_STATUS_NOT_APPLICABLE, "METHOD_NOT_APPLICABLE")


def test_no_sanity_check(folder: Path) -> None:
    """Weights that can't become random prove nothing."""
    assert check(load_model(folder, CPU), ["grad_cam"]) == []


def test_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as torch was given, in every session."""
    monkeypatch.setenv("WHYLIGHT_THREADS", "2")
    before = torch.get_num_threads()
    worker = start(folder)._worker
    torch.set_num_threads(before)
    assert worker is not None
    sessions = [each._shared.session for each in worker.model.module.modules() if hasattr(each, "_shared")]
    assert [each.get_session_options().intra_op_num_threads for each in sessions] == [2]


def test_another_file(folder: Path, tmp_path: Path) -> None:
    """Its digest is looked at before anything reads it."""
    other = unpack(write_tiny_onnx(tmp_path), tmp_path)
    (other / "model.onnx").write_bytes(b"something else")
    with pytest.raises(DigestError, match="sha256 of the weights"):
        load_model(other, CPU)


def test_a_bad_file(tmp_path: Path) -> None:
    """One sentence for the operator, with the model's name."""
    manifest = write_tiny_onnx(tmp_path)
    manifest.write_text(manifest.read_text().replace("size = 32", "size = 48"))
    with pytest.raises(ArchitectureError, match=r"^tiny: the input images takes"):
        load_model(unpack(manifest, tmp_path), CPU)


def test_onnx_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "onnx" or name.startswith("runtimes.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ArchitectureError, match="onnx is not installed: pip install"):
        load_model(folder, CPU)


def test_channels_last(folder: Path) -> None:
    """Methods of many passes hand the network its images in another order of memory."""
    network = load_model(folder, CPU).network
    quick: Network = network.for_many_passes()
    images = torch.rand(2, 3, SIDE, SIDE)
    assert torch.allclose(quick.predict(images), tiny_network()((images - 0.5) / 0.5), rtol=0, atol=1e-4)
    assert len(METHODS["score_cam"]().resolve(network).explain(network, images, [TopK()] * 2)) == 2
