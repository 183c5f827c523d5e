"""Every saliency method through the running service."""

import numpy as np
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2
from service.client import build_method
from tests.e2e.test_service import MODELS, SAMPLE, classes, explain, values

pytestmark = pytest.mark.e2e
METHODS = [field.name for field in method_pb2.Method.DESCRIPTOR.fields]
# Methods that take many passes, made short.
QUICK = {
    "opti_cam": ["steps=5"],
    "extremal_perturbation": ["steps=5"],
    "ss_cam": ["samples=1"],
    "smooth_grad": ["samples=4"],
    "smooth_grad_cam_plus_plus": ["samples=4"],
    "integrated_gradients": ["steps=8"],
    "occlusion": ["window=24", "stride=24"],
    "rise": ["samples=64"],
    "lime": ["samples=64", "segments=8"],
    "kernel_shap": ["samples=64", "segments=8"],
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_served_where_it_works(stub: api_grpc.ExplanationServiceStub, name: str) -> None:
    """Each method answers with finite maps in [0, 1] for both digits on every model that ListMethods names."""
    info = next(each for each in stub.ListMethods(api.ListMethodsRequest()).methods if each.name == name)
    assert set(info.models) <= set(MODELS)
    assert info.models
    for model in info.models:
        method = build_method(name, QUICK.get(name, []))
        response = stub.Explain(explain(model=model, method=method, targets=classes(*SAMPLE["labels"])), timeout=60)
        assert response.provenance.method.WhichOneof("method") == name
        for each in response.explanations:
            assert not each.map.degenerate
            grid = values(each)
            assert (grid.min(), grid.max()) == (0.0, 1.0)
            assert np.isfinite(grid).all()
