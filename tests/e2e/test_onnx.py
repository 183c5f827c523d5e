"""ONNX Runtime in a service: as the fast path of a torch network, and for a model that is an ONNX file."""

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


def test_served_by_onnx_runtime(tmp_path: Path) -> None:
    """A prediction, its Grad-CAM, and a method that goes on with torch."""
    manifest = write_tiny_graph(tmp_path)
    manifest.write_text(manifest.read_text() + "[models.serving]\nfast_workers = 0\nslow_workers = 0\nthreads = 1\n")
    image = photograph()
    with launched({"manifest": manifest}) as service, grpc.insecure_channel(service.address) as channel:
        stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]
        predicted = stub.Predict(api.PredictRequest(model="tiny", image=encode(image)))
        explained = stub.Explain(api.ExplainRequest(model="tiny", image=encode(image)))
        layer_cam = method_pb2.Method(layer_cam=method_pb2.LayerCam())
        by_torch = stub.Explain(api.ExplainRequest(model="tiny", image=encode(image), method=layer_cam))
    assert predicted.provenance.runtime == explained.provenance.runtime == "onnxruntime"
    assert explained.provenance.library_versions["onnxruntime"]
    assert explained.provenance.method.WhichOneof("method") == "grad_cam"
    assert by_torch.provenance.runtime == "torch"
    model = load_model(unpack(manifest, tmp_path / "own"), torch.device("cpu"))
    preprocessing = model.document.preprocessing
    pixels = to_input(image, geometry((image.height, image.width), preprocessing), preprocessing)
    (expected,) = GradCam().resolve(model.network).explain(model.network, pixels[None], [TopK()])
    values = np.frombuffer(explained.explanations[0].map.values.data, "<f4")
    assert np.allclose(values, expected.explanations[0].map.numpy().flatten(), rtol=0, atol=1e-4)
    assert predicted.predictions[0].index == explained.predictions[0].index == expected.explanations[0].target


def test_an_onnx_file_served(tmp_path: Path) -> None:
    """A model that is nothing but an ONNX file: predicted, explained without gradients, and refused what needs them."""
    manifest = write_tiny_onnx(tmp_path)
    manifest.write_text(manifest.read_text() + "[models.serving]\nfast_workers = 0\nslow_workers = 0\nthreads = 1\n")
    image = encode(photograph())
    methods = {
        "cam": method_pb2.Method(cam=method_pb2.Cam()),
        "rise": method_pb2.Method(rise=method_pb2.Rise(samples=64)),
        "score_cam": method_pb2.Method(score_cam=method_pb2.ScoreCam()),
    }
    with launched({"manifest": manifest}) as service, grpc.insecure_channel(service.address) as channel:
        stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]
        predicted = stub.Predict(api.PredictRequest(model="tiny", image=image))
        explained = {
            name: stub.Explain(api.ExplainRequest(model="tiny", image=image, method=method))
            for name, method in methods.items()
        }
        gradient = method_pb2.Method(gradient=method_pb2.Gradient())
        with pytest.raises(grpc.RpcError) as refused:
            stub.Explain(api.ExplainRequest(model="tiny", image=image, method=gradient))
        model = stub.GetModel(api.GetModelRequest(model="tiny")).model
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    works = {each.method for each in model.methods if each.supported}
    assert methods.keys() <= works
    assert not {"gradient", "opti_cam", "lrp", "tibav"} & works
    assert predicted.provenance.runtime == "onnxruntime"
    for name, answer in explained.items():
        assert answer.provenance.runtime == "onnxruntime"
        assert answer.provenance.method.WhichOneof("method") == name
        assert answer.predictions[0].index == predicted.predictions[0].index
        values = np.frombuffer(answer.explanations[0].map.values.data, "<f4")
        assert np.isfinite(values).all()
        assert values.size == (SIDE * SIDE if name == "rise" else 64)
        assert answer.provenance.target_layer == ("" if name == "rise" else model.target_layer.path)
