"""A model whose manifest names a graph, served: who computed an answer is told, and the numbers are the same."""

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
from tests.tiny import unpack

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
