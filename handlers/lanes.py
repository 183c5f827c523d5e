"""The rule by which work is fast or slow: docs/adr/0005-lanes.md says why it is this one."""

from explainers import Method, Stepwise
from protos.explain.v1 import types_pb2
from quality import Metric, Need
from quality.masked import MaskedMetric

_PASSES = frozenset({Need.NETWORK, Need.EXPLAIN})


def lane_of_method(kind: type[Method]) -> types_pb2.Lane:
    """A method that works in steps is slow, whatever its parameters; the others take a few passes."""
    return types_pb2.LANE_SLOW if issubclass(kind, Stepwise) else types_pb2.LANE_FAST


def lane_of_metric(kind: type[Metric]) -> types_pb2.Lane:
    """A metric that takes passes is slow, but for those of the image under the map: they share one or two."""
    quick = issubclass(kind, MaskedMetric) or not kind.needs & _PASSES
    return types_pb2.LANE_FAST if quick else types_pb2.LANE_SLOW
