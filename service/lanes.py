"""Which workers a command goes to."""

from dataclasses import dataclass

from model_store.lanes import Lane, registration
from protos.explain.v1 import types_pb2
from service.catalog import DeployedModel
from service.commands import ExplainCommand, PredictCommand
from service.errors import WorkerUnavailableError

# A class costs a fast map up to a whole map more, so many of them cost as much as a slow map.
FAST_CLASSES = 5

TO_MESSAGE = {Lane.PREDICT: types_pb2.LANE_PREDICT, Lane.FAST: types_pb2.LANE_FAST, Lane.SLOW: types_pb2.LANE_SLOW}


@dataclass(frozen=True)
class Place:
    """Workers with a queue of their own.

    Attributes:
        model: name of the model.
        lane: the quickest lane whose work they do.
        workers: how many there should be.
    """

    model: str
    lane: Lane
    workers: int

    @property
    def registration(self) -> str:
        """TorchServe's name for them."""
        return registration(self.model, self.lane)


def lane_of(command: PredictCommand, model: DeployedModel) -> Lane:
    """The lane that a command takes: the slowest of what it asks for, by what the worker says of each."""
    if not isinstance(command, ExplainCommand):
        return Lane.PREDICT
    methods = (command.method, command.quality.compare_with)
    known = [model.methods.get(str(each.WhichOneof("method"))) for each in methods]
    metrics = [model.metrics.get(choice.name) for choice in command.quality.metrics]
    slow = any(info is not None and info.lane == types_pb2.LANE_SLOW for info in (*known, *metrics))
    return Lane.SLOW if slow or command.classes > FAST_CLASSES else Lane.FAST


def shared(lane: Lane, model: DeployedModel) -> Lane:
    """The lane whose workers do the work of `lane`: itself, or the next quicker one that has workers of its own."""
    order = list(Lane)
    return next(each for each in reversed(order[: order.index(lane) + 1]) if each in model.lanes)


def place_of(command: PredictCommand, model: DeployedModel) -> Place:
    """The workers for a command.

    Raises:
        WorkerUnavailableError: none of them is ready.
    """
    lane = shared(lane_of(command, model), model)
    workers = model.lanes[lane]
    if not workers.ready:
        raise WorkerUnavailableError(f"no worker for the model's lane {lane} is ready")
    return Place(model.name, lane, workers.total)
