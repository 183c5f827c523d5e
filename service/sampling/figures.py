"""Between the API's figures and the service's metrics of quality."""

from google.protobuf.struct_pb2 import Struct

from protos.explain.v1 import quality_pb2, types_pb2
from service.quality_metrics import SCORE_INCREASE

# name of the API's metric: (name of the service's, what 1 is in the API's unit)
NAMES = {
    "average_drop": ("average_drop", 100.0),
    "average_gain": ("average_gain", 100.0),
    "average_increase": (SCORE_INCREASE, 100.0),
    "insertion": ("insertion_auc", 1.0),
    "deletion": ("deletion_auc", 1.0),
}
CURVES = ("insertion", "deletion")


def to_options(steps: int) -> quality_pb2.QualityOptions:
    """What to ask of the worker; 0 steps leave the curves out."""
    options = quality_pb2.QualityOptions()
    for name in NAMES:
        if name not in CURVES:
            options.metrics.add(name=name)
        elif steps:
            parameters = Struct()
            parameters.update({"steps": steps})
            options.metrics.add(name=name, parameters=parameters)
    return options


def from_result(explanation: types_pb2.Explanation) -> dict[str, float]:
    """The figures of one explanation by the service's names, as far as they are defined."""
    found = {}
    for figure in explanation.quality:
        if figure.HasField("value") and figure.metric in NAMES:
            name, one = NAMES[figure.metric]
            found[name] = figure.value / one
    return found
