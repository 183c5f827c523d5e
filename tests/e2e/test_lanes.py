"""A slow map is computed while others ask for what is quick."""

import time
import urllib.request

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2, types_pb2
from service.launch import Launched
from tests.e2e.test_service import IMAGE, explain, whylight

pytestmark = pytest.mark.e2e
SLOW = method_pb2.Method(rise=method_pb2.Rise(samples=3000))


def figure(service: Launched, sample: str) -> str:
    """The value of a metric, "" where it is not there."""
    text = urllib.request.urlopen(service.metrics, timeout=10).read().decode()  # noqa: S310 - our own address
    return next((line.removeprefix(sample).strip() for line in text.splitlines() if line.startswith(sample)), "")


def test_predictions_and_fast_maps_are_answered_while_a_slow_map_is_computed(
    service: Launched, stub: api_grpc.ExplanationServiceStub
) -> None:
    """All of them before the slow map, which then comes as well; without lanes they would come after it.

    Then it is known how long such a map takes, and a deadline that is much shorter is refused at once.
    """
    slow = stub.Explain.future(explain(method=SLOW), timeout=300)
    began = time.monotonic()
    while figure(service, 'whylight_in_flight{lane="slow",model="digits-cnn"}') != "1.0":
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    for _ in range(5):
        assert stub.Predict(api.PredictRequest(model="digits-cnn", image=IMAGE)).predictions
        assert stub.Explain(explain()).explanations
    assert not slow.done()
    assert slow.result().explanations
    with pytest.raises(grpc.RpcError) as caught:
        stub.Explain(explain(method=SLOW, no_cache=True), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_methods_tell_their_lane_and_what_they_cost(service: Launched, stub: api_grpc.ExplanationServiceStub) -> None:
    """Where a model has no workers for a lane, the quicker one's do its work; seconds are there once measured."""
    stub.Explain(explain(method=method_pb2.Method(smooth_grad=method_pb2.SmoothGrad())))
    methods = {method.name: method for method in stub.ListMethods(api.ListMethodsRequest()).methods}
    assert methods["grad_cam"].lane == types_pb2.LANE_FAST
    costs = {cost.model: cost for cost in methods["smooth_grad"].expected_costs}
    assert methods["smooth_grad"].lane == costs["digits-cnn"].lane == types_pb2.LANE_SLOW
    assert costs["digits-vit"].lane == types_pb2.LANE_PREDICT
    assert 0 < costs["digits-cnn"].seconds < 60
    assert "slow" in whylight(service, "methods").stdout
