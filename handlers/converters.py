"""Between the messages of worker/v1 and Python values."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from torch import Tensor

from explainers import (
    METHODS,
    Activation,
    Classes,
    ExplainerError,
    Explanation,
    LayerInfo,
    Method,
    ParameterSpec,
    Targets,
    TopK,
    specs,
    validate,
)
from handlers.errors import InvalidWorkError, WorkError, from_explainer
from handlers.lanes import lane_of_method
from handlers.preprocess import Affine
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, types_pb2
from protos.worker.v1 import worker_pb2

PARAMETER_TYPES = {
    str: types_pb2.PARAMETER_TYPE_STRING,
    int: types_pb2.PARAMETER_TYPE_INTEGER,
    float: types_pb2.PARAMETER_TYPE_NUMBER,
    bool: types_pb2.PARAMETER_TYPE_BOOLEAN,
    tuple: types_pb2.PARAMETER_TYPE_STRING_LIST,
}
_COLOR_MAPS = {
    api.COLOR_MAP_UNSPECIFIED: "viridis",
    api.COLOR_MAP_VIRIDIS: "viridis",
    api.COLOR_MAP_CIVIDIS: "cividis",
    api.COLOR_MAP_INFERNO: "inferno",
}
_DEFAULT_OPACITY = 0.5


def to_method(message: method_pb2.Method) -> Method:
    """The method that the oneof names, with the parameters that are set.

    Raises:
        InvalidWorkError: none is named, or one that is not known here, or a parameter is out of bounds.
    """
    name = message.WhichOneof("method")
    if name is None or name not in METHODS:
        raise InvalidWorkError("the method is missing or unknown", field="method", reason="UNKNOWN_METHOD")
    given = getattr(message, name)
    kind = METHODS[name]
    present = {field.name for field, _ in given.ListFields()}  # of a list: when it has entries
    values = {spec.name: _value(given, spec) for spec in specs(kind) if spec.name in present}
    try:
        method = kind(**values)
        validate(method)
    except ExplainerError as error:
        raise from_explainer(error, name) from None
    return method


def _value(message: Any, spec: ParameterSpec) -> Any:
    value = getattr(message, spec.name)
    return tuple(value) if spec.kind is tuple else value


def from_method(method: Method) -> method_pb2.Method:
    """The message of a method; parameters that are None stay unset."""
    message = method_pb2.Method()
    chosen = getattr(message, method.name)
    chosen.SetInParent()
    for spec in specs(type(method)):
        value = getattr(method, spec.name)
        if isinstance(value, tuple):
            getattr(chosen, spec.name).extend(value)
        elif value is not None:
            setattr(chosen, spec.name, value)
    return message


def from_method_class(kind: type[Method]) -> types_pb2.MethodInfo:
    """What clients may know of a method; `models` and `expected_costs` stay empty."""
    return types_pb2.MethodInfo(
        name=kind.name,
        title=kind.title,
        reference=kind.reference,
        description=kind.description,
        requirement=kind.requirement,
        parameters=from_parameters(kind),
        lane=lane_of_method(kind),
    )


def from_parameters(kind: type) -> list[types_pb2.ParameterInfo]:
    """What clients may know of the parameters of a method or a metric."""
    return [
        types_pb2.ParameterInfo(
            name=spec.name,
            type=PARAMETER_TYPES[spec.kind],
            default_value=_default_text(spec.default),
            minimum=spec.minimum,
            maximum=spec.maximum,
            description=spec.description,
        )
        for spec in specs(kind)
    ]


def _default_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_targets(work: worker_pb2.ImageWork, class_count: int) -> Targets:
    """The classes to explain; the predicted one where the request names none.

    Raises:
        InvalidWorkError: a class index that the model does not have.
    """
    for position, index in enumerate(work.class_indices):
        if index >= class_count:
            raise InvalidWorkError(
                f"the class index must be between 0 and {class_count - 1}",
                field=f"targets.classes[{position}].index",
                reason="INVALID_TARGET",
            )
    return Classes(tuple(work.class_indices)) if work.class_indices else TopK(max(1, work.target_top_k))


@dataclasses.dataclass(frozen=True)
class Output:
    """What to send besides the numbers.

    Attributes:
        input_resolution: maps at the size of the network's input instead of the native grid.
        map_png: greyscale picture of each map.
        overlay_png: each map in colour over the image.
        color_map: "viridis", "cividis" or "inferno".
        opacity: of the colours, 0 to 1.
    """

    input_resolution: bool
    map_png: bool
    overlay_png: bool
    color_map: str
    opacity: float


def to_output(message: api.OutputOptions) -> Output:
    """The options with every choice made.

    Raises:
        InvalidWorkError: an opacity outside [0, 1], or an unknown colour map.
    """
    opacity = message.overlay_opacity if message.HasField("overlay_opacity") else _DEFAULT_OPACITY
    if not 0.0 <= opacity <= 1.0:
        raise InvalidWorkError("the opacity must be between 0 and 1", field="output.overlay_opacity")
    if message.color_map not in _COLOR_MAPS:
        raise InvalidWorkError("the colour map is unknown", field="output.color_map")
    return Output(
        input_resolution=message.resolution == types_pb2.MAP_RESOLUTION_INPUT,
        map_png=message.map_png,
        overlay_png=message.overlay_png,
        color_map=_COLOR_MAPS[message.color_map],
        opacity=opacity,
    )


def from_scores(
    logits: Tensor, indices: Sequence[int], labels: Sequence[str], activation: Activation
) -> list[types_pb2.ClassScore]:
    """Scores of some classes.

    Args:
        logits: shape (classes,), float32.
        indices: the classes, in the order of the answer.
        labels: of every class.
        activation: from the logits to the probabilities.
    """
    probabilities = activation.probabilities(logits.double())
    return [
        types_pb2.ClassScore(
            index=index, label=labels[index], logit=logits[index].item(), probability=probabilities[index].item()
        )
        for index in indices
    ]


def most_probable(logits: Tensor, count: int) -> list[int]:
    """The `count` classes with the largest logits, largest first; of equal ones the lower index."""
    indices: list[int] = logits.argsort(descending=True, stable=True)[:count].tolist()
    return indices


def from_map(
    explanation: Explanation, values: Tensor, to_image: Affine, input_resolution: bool
) -> types_pb2.SaliencyMap:
    """The message of a map.

    Args:
        explanation: whose native map it is.
        values: shape (h, w), float32 in [0, 1]: the native map, or the same at the size of the network's input.
        to_image: from coordinates of `values` to pixels of the upright image.
        input_resolution: which of the two `values` is.
    """
    array = values.detach().cpu().contiguous().numpy().astype("<f4", copy=False)
    return types_pb2.SaliencyMap(
        values=types_pb2.Tensor(data_type=types_pb2.DATA_TYPE_FLOAT32, shape=array.shape, data=array.tobytes()),
        minimum=0.0,
        maximum=1.0,
        normalization=types_pb2.NORMALIZATION_MIN_MAX,
        resolution=types_pb2.MAP_RESOLUTION_INPUT if input_resolution else types_pb2.MAP_RESOLUTION_NATIVE,
        native_height=explanation.map.shape[0],
        native_width=explanation.map.shape[1],
        raw_minimum=explanation.raw_minimum,
        raw_maximum=explanation.raw_maximum,
        degenerate=explanation.degenerate,
        map_to_image=types_pb2.AffineTransform(
            xx=to_image.scale_x, x0=to_image.offset_x, yy=to_image.scale_y, y0=to_image.offset_y
        ),
    )


def from_layer(layer: LayerInfo) -> types_pb2.Layer:
    """The message of a layer."""
    return types_pb2.Layer(path=layer.path, channels=layer.channels, height=layer.height, width=layer.width)


def from_error(error: WorkError) -> worker_pb2.WorkResponse:
    """The answer to an item that failed."""
    violations = [worker_pb2.FieldViolation(field=error.field, description=error.message)] if error.field else []
    return worker_pb2.WorkResponse(
        status=error.status, reason=error.reason, message=error.message, violations=violations
    )


def from_seconds(seconds: float) -> Duration:
    """The message of a length of time."""
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def to_deadline(request: worker_pb2.WorkRequest) -> float:
    """Unix time after which nobody waits; infinity where the request has no deadline."""
    return request.deadline.ToNanoseconds() / 1e9 if request.HasField("deadline") else math.inf
