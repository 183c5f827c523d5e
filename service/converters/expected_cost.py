"""What ListMethods says of the cost of a method."""

from model_store.lanes import Lane
from protos.explain.v1 import types_pb2
from service.catalog import DeployedModel
from service.costs import Costs, default_kind
from service.lanes import TO_MESSAGE, shared


def expected_cost(method: types_pb2.MethodInfo, model: DeployedModel, costs: Costs) -> types_pb2.ExpectedCost:
    """What to expect of a method's maps on a model."""
    lane = Lane.SLOW if method.lane == types_pb2.LANE_SLOW else Lane.FAST
    seconds = costs.expected(default_kind(model.name, method.name))
    return types_pb2.ExpectedCost(model=model.name, lane=TO_MESSAGE[shared(lane, model)], seconds=seconds)
