"""ONNX Runtime in a service: as the fast path of a torch network, and for a model that is an ONNX file."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch

from explainers import GradCam, TopK
from handlers.loading import load_model
from handlers.preprocess import geometry, to_input
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2
from service.launch import launched
from tests.handlers.graphs import write_tiny_graph
from tests.handlers.pictures import encode, photograph
from tests.onnx_files import write_tiny_onnx
from tests.tiny import SIDE, unpack

pytestmark = pytest.mark.e2e

SERVING = "[models.serving]\nfast_workers = 0\nslow_workers = 0\nthreads = 1\n"
IMAGE = photograph()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a torch network with a graph, `tiny`, and an ONNX file, `file`."""
    folder = tmp_path_factory.mktemp("onnx")
    path = write_tiny_graph(folder)
    file = write_tiny_onnx(folder / "file").read_text().replace('"tiny"', '"file"').replace("onnx:", "onnx:file/")
    path.write_text(path.read_text() + SERVING + file + SERVING)
    return path


@pytest.fixture(scope="module")
def stub(manifest: Path) -> Iterator[api_grpc.ExplanationServiceStub]:
    with launched({"manifest": manifest}) as service, grpc.insecure_channel(service.address) as channel:
        yield api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]


def explain(stub: api_grpc.ExplanationServiceStub, model: str, **method: object) -> api.ExplainResponse:
    request = api.ExplainRequest(model=model, image=encode(IMAGE))
    if method:
        request.method.CopyFrom(method_pb2.Method(**method))  # type: ignore[arg-type]
    return stub.Explain(request)


def test_served_by_onnx_runtime(stub: api_grpc.ExplanationServiceStub, manifest: Path, tmp_path: Path) -> None:
    """A prediction, its Grad-CAM, and a method that goes on with torch."""
    predicted = stub.Predict(api.PredictRequest(model="tiny", image=encode(IMAGE)))
    explained = explain(stub, "tiny")
    by_torch = explain(stub, "tiny", layer_cam=method_pb2.LayerCam())
    assert predicted.provenance.runtime == explained.provenance.runtime == "onnxruntime"
    assert explained.provenance.library_versions["onnxruntime"]
    assert explained.provenance.method.WhichOneof("method") == "grad_cam"
    assert by_torch.provenance.runtime == "torch"
    model = load_model(unpack(manifest, tmp_path / "own"), torch.device("cpu"))
    preprocessing = model.document.preprocessing
    pixels = to_input(IMAGE, geometry((IMAGE.height, IMAGE.width), preprocessing), preprocessing)
    (expected,) = GradCam().resolve(model.network).explain(model.network, pixels[None], [TopK()])
    values = np.frombuffer(explained.explanations[0].map.values.data, "<f4")
    assert np.allclose(values, expected.explanations[0].map.numpy().flatten(), rtol=0, atol=1e-4)
    assert predicted.predictions[0].index == explained.predictions[0].index == expected.explanations[0].target


def test_an_onnx_file(stub: api_grpc.ExplanationServiceStub) -> None:
    """Predicted as the torch network, explained without gradients of the pixels, and refused what needs them."""
    predicted, other = (stub.Predict(api.PredictRequest(model=name, image=encode(IMAGE))) for name in ("file", "tiny"))
    assert predicted.provenance.runtime == "onnxruntime"
    for one, two in zip(predicted.predictions, other.predictions, strict=True):
        assert (one.index, one.logit) == (two.index, pytest.approx(two.logit, abs=1e-4))
    model = stub.GetModel(api.GetModelRequest(model="file")).model
    layer = model.target_layer.path
    methods = {
        "cam": method_pb2.Cam(),
        "rise": method_pb2.Rise(samples=64),
        "score_cam": method_pb2.ScoreCam(layer=layer),
    }
    for name, method in methods.items():
        answer = explain(stub, "file", **{name: method})
        assert answer.provenance.runtime == "onnxruntime"
        assert answer.provenance.target_layer == ("" if name == "rise" else layer)
        values = np.frombuffer(answer.explanations[0].map.values.data, "<f4")
        assert np.isfinite(values).all()
        assert values.size == (SIDE * SIDE if name == "rise" else 64)
    works = {each.method for each in model.methods if each.supported}
    assert methods.keys() <= works
    assert not {"gradient", "opti_cam", "lrp", "tibav"} & works
    with pytest.raises(grpc.RpcError) as refused:
        explain(stub, "file", gradient=method_pb2.Gradient())
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
