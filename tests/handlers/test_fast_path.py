"""A worker with a graph: what ONNX Runtime answers, what torch answers, and what is refused."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from handlers import torchserve_handler
from handlers.describe import describe
from handlers.fast_path import RuntimeRefusedError, with_fast_path
from handlers.loading import DigestError, LoadedModel, load_model
from handlers.torchserve_handler import TorchServeHandler
from model_store.document import GRAPH_FILE
from protos.explain.v1 import method_pb2
from protos.worker.v1 import worker_pb2
from tests.handlers.graphs import write_tiny_graph
from tests.handlers.pictures import encode, photograph
from tests.handlers.test_handler import GRAD_CAM, VISIBLE, ask, start, work
from tests.tiny import unpack

CPU = torch.device("cpu")
LAYER_CAM = method_pb2.Method(layer_cam=method_pb2.LayerCam())
EARLIER = method_pb2.Method(grad_cam=method_pb2.GradCam(layer="first"))
PHOTOS = [encode(photograph(seed=seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked archive with a graph."""
    path = tmp_path_factory.mktemp("graph")
    return unpack(write_tiny_graph(path), path)


@pytest.fixture(scope="module")
def handler(folder: Path) -> TorchServeHandler:
    return start(folder)


@pytest.fixture(scope="module")
def by_torch(folder: Path) -> TorchServeHandler:
    """The same, without the graph."""
    handler = TorchServeHandler()
    properties = {"model_dir": str(folder), "gpu_id": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchserve_handler, "with_fast_path", lambda model, _folder: model)
        handler.initialize(SimpleNamespace(system_properties=properties))
    return handler


def values(result: worker_pb2.ImageResult) -> list[Any]:
    return [np.frombuffer(item.map.values.data, "<f4") for item in result.explanations]


@pytest.mark.parametrize(
    ("method", "targets", "runtime"),
    [
        (None, {}, "onnxruntime"),
        (GRAD_CAM, {}, "onnxruntime"),
        (GRAD_CAM, {"class_indices": [VISIBLE]}, "onnxruntime"),
        (GRAD_CAM, {"class_indices": [VISIBLE, 1]}, "torch"),
        (LAYER_CAM, {}, "torch"),
        (EARLIER, {}, "torch"),
    ],
    ids=["prediction", "predicted class", "named class", "two classes", "another method", "another layer"],
)
def test_answers(
    handler: TorchServeHandler,
    by_torch: TorchServeHandler,
    method: method_pb2.Method | None,
    targets: dict[str, Any],
    runtime: str,
) -> None:
    """The same to 1e-4, whoever computes them; each answer says who did."""
    requests = [work(photo, method, top_k=5, **targets) for photo in PHOTOS]
    answers, expected = ask(handler, *requests), ask(by_torch, *requests)
    for answer, other in zip(answers, expected, strict=True):
        assert answer.image.runtime == runtime
        assert other.image.runtime == "torch"
        assert [each.index for each in answer.image.predictions] == [each.index for each in other.image.predictions]
        for one, two in zip(answer.image.predictions, other.image.predictions, strict=True):
            assert one.probability == pytest.approx(two.probability, abs=1e-4)
            assert one.logit == pytest.approx(two.logit, abs=1e-4)
        assert len(values(answer.image)) == len(values(other.image))
        assert np.allclose(values(answer.image), values(other.image), rtol=0, atol=1e-4)
        assert answer.image.content_digest == other.image.content_digest
        assert answer.image.resolved_method == other.image.resolved_method


def test_neighbours(handler: TorchServeHandler) -> None:
    """Who computes an answer does not depend on what else is in the batch."""
    wanted = [[VISIBLE], [VISIBLE, 1], [1]]
    answers = ask(handler, *(work(PHOTOS[0], GRAD_CAM, class_indices=each) for each in wanted))
    assert [answer.image.runtime for answer in answers] == ["onnxruntime", "torch", "onnxruntime"]
    found = [[item.target.index for item in answer.image.explanations] for answer in answers]
    assert found == wanted


def test_description(handler: TorchServeHandler, by_torch: TorchServeHandler) -> None:
    """It tells the library's version where the library is used."""
    assert handler._worker is not None
    assert by_torch._worker is not None
    assert describe(handler._worker.model).model.library_versions["onnxruntime"]
    assert "onnxruntime" not in describe(by_torch._worker.model).model.library_versions


def test_lanes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers for slow maps and for quality do without: nothing that they compute is in the graph."""
    monkeypatch.setattr(torchserve_handler.os, "nice", lambda _niceness: 0)
    threads = torch.get_num_threads()
    for name, expected in (("tiny", True), ("tiny--fast", True), ("tiny--slow", False), ("tiny--quality", False)):
        handler = TorchServeHandler()
        properties = {"model_dir": str(folder), "gpu_id": None}
        handler.initialize(SimpleNamespace(system_properties=properties, model_name=name))
        assert handler._worker is not None
        assert (handler._worker.model.fast is not None) == expected
    torch.set_num_threads(threads)


def test_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as torch was given."""
    monkeypatch.setenv("WHYLIGHT_THREADS", "2")
    threads = torch.get_num_threads()
    worker = start(folder)._worker
    torch.set_num_threads(threads)
    assert worker is not None
    assert worker.model.fast is not None
    assert worker.model.fast.session.get_session_options().intra_op_num_threads == 2


def load(folder: Path) -> LoadedModel:
    return load_model(folder, CPU)


def test_cuda_that_is_not_there(folder: Path) -> None:
    """A worker that was given a GPU does not quietly answer from the CPU."""
    model = load(folder)
    model.network.device = torch.device("cuda:0")
    with pytest.raises(RuntimeRefusedError, match=r"^tiny: this onnxruntime has no CUDAExecutionProvider: install"):
        with_fast_path(model, folder)


def test_another_graph(folder: Path, tmp_path: Path) -> None:
    """One that is not the archive's is not opened; without one the archive is refused."""
    shutil.copytree(folder, tmp_path / "copy")
    graph = tmp_path / "copy" / GRAPH_FILE
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestError, match="sha256 of the graph"):
        with_fast_path(load(tmp_path / "copy"), tmp_path / "copy")
    graph.unlink()
    with pytest.raises(RuntimeError, match="the graph in the archive cannot be read"):
        with_fast_path(load(tmp_path / "copy"), tmp_path / "copy")
