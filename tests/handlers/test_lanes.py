"""What is fast and what is slow, by the rule and by name."""

from explainers import METHODS
from handlers.lanes import lane_of_method, lane_of_metric
from handlers.metrics import OFFERED
from protos.explain.v1 import types_pb2

FAST_METHODS = {
    "attention_rollout", "cam", "fake_cam", "grad_cam", "grad_cam_plus_plus", "gradient", "guided_backprop",
    "guided_grad_cam", "layer_cam", "lrp", "raw_attention", "tibav", "xgrad_cam",
}  # fmt: skip
SLOW_METRICS = {"deletion", "insertion", "max_sensitivity", "saliency_metric"}
FAST_METRICS = {"average_drop", "average_gain", "average_increase", "border_mass", "rank_correlation"}


def test_methods_of_a_few_passes_are_fast() -> None:
    """All others are slow. A new method is put down here once its cost is known (docs/benchmarks/methods.md)."""
    assert {name for name, kind in METHODS.items() if lane_of_method(kind) == types_pb2.LANE_FAST} == FAST_METHODS


def test_metrics_of_many_passes_are_slow() -> None:
    """Those of the map alone, and of the image under it, are fast."""
    slow = {name for name, kind in OFFERED.items() if lane_of_metric(kind) == types_pb2.LANE_SLOW}
    assert slow >= SLOW_METRICS
    assert not slow & FAST_METRICS
    assert OFFERED.keys() >= SLOW_METRICS | FAST_METRICS
