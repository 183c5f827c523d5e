"""Between the quality messages of the API and metrics."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from google.protobuf.struct_pb2 import Struct

from explainers import ExplainerError, InvalidParameterError, Method, Network, ParameterSpec, specs, validate
from handlers.converters import from_parameters, to_method
from handlers.errors import InvalidWorkError, NotApplicableWorkError, from_explainer
from handlers.lanes import lane_of_metric
from protos.explain.v1 import quality_pb2, types_pb2
from quality import METRICS, Metric, Need

# What a request can bring along. Boxes, masks and the module itself are for evaluation offline.
_OFFERED = frozenset({Need.NETWORK, Need.EXPLAIN, Need.OTHER_MAPS})
OFFERED: Mapping[str, type[Metric]] = {name: kind for name, kind in METRICS.items() if kind.needs <= _OFFERED}
_DIRECTIONS = {"higher": quality_pb2.METRIC_DIRECTION_HIGHER, "lower": quality_pb2.METRIC_DIRECTION_LOWER}


@dataclass(frozen=True)
class Quality:
    """What to find out about each explanation of a request.

    Attributes:
        metrics: in the order of the answer.
        compare_with: the method whose maps to compare with, resolved; None for no comparison.
    """

    metrics: tuple[Metric, ...] = ()
    compare_with: Method | None = None


def to_quality(message: quality_pb2.QualityOptions, network: Network) -> Quality:
    """What a request asks for.

    Raises:
        InvalidWorkError: an unknown metric or parameter, one out of bounds, a metric twice, or no second method to
            compare with.
        NotApplicableWorkError: the second method is not defined for this network.
    """
    metrics = tuple(_to_metric(each, f"quality.metrics[{i}]") for i, each in enumerate(message.metrics))
    other = _other(message, network) if message.HasField("compare_with") else None
    for position, metric in enumerate(metrics):
        if metric in metrics[:position]:
            field = f"quality.metrics[{position}]"
            raise InvalidWorkError("this metric is asked for twice with the same parameters", field=field)
        if other is None and Need.OTHER_MAPS in metric.needs:
            field = f"quality.metrics[{position}].name"
            raise InvalidWorkError("this metric compares two maps: name a second method", field=field)
    return Quality(metrics, other)


def _other(message: quality_pb2.QualityOptions, network: Network) -> Method:
    try:
        method = to_method(message.compare_with)
        try:
            return method.resolve(network)
        except ExplainerError as error:
            raise from_explainer(error, method.name) from None
    except (InvalidWorkError, NotApplicableWorkError) as error:
        field = "quality.compare_with" + error.field.removeprefix("method")
        raise type(error)(error.message, field=field, reason=error.reason) from None


def _to_metric(choice: quality_pb2.MetricChoice, field: str) -> Metric:
    kind = OFFERED.get(choice.name)
    if kind is None:
        raise InvalidWorkError("no metric that requests can ask for; ListMetrics names them", field=f"{field}.name")
    known = {spec.name: spec for spec in specs(kind)}
    given = dict(choice.parameters.items())
    if not given.keys() <= known.keys():
        has = f"the metric has no such parameter; it has: {', '.join(known) or 'none'}"
        raise InvalidWorkError(has, field=f"{field}.parameters")
    values = {name: _to_value(known[name], value, f"{field}.parameters.{name}") for name, value in given.items()}
    try:
        metric = kind(**values)
        validate(metric)
    except InvalidParameterError as error:
        wrong = f"{field}.parameters.{error.parameter}"
        raise InvalidWorkError(str(error), field=wrong, reason="INVALID_PARAMETER") from None
    return metric


def _to_value(spec: ParameterSpec, value: object, field: str) -> object:
    """A value of a Struct, in which every number is a float, as the parameter's kind."""
    if spec.kind is int and isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if type(value) is not spec.kind:
        kinds = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        raise InvalidWorkError(f"{spec.name} must be {kinds[spec.kind]}", field=field, reason="INVALID_PARAMETER")
    return value


def from_figure(metric: Metric, value: float) -> quality_pb2.QualityFigure:
    """The message of a figure; not-a-number becomes absence."""
    parameters = Struct()
    parameters.update(asdict(metric))
    return quality_pb2.QualityFigure(
        metric=metric.name,
        title=metric.title,
        formula=metric.formula,
        reference=metric.reference,
        direction=_DIRECTIONS[metric.direction],
        unit=metric.unit.value,
        parameters=parameters,
        value=value if math.isfinite(value) else None,
    )


def from_metric_class(kind: type[Metric]) -> types_pb2.MetricInfo:
    """What clients may know of a metric."""
    low, high = kind.range
    return types_pb2.MetricInfo(
        name=kind.name,
        title=kind.title,
        formula=kind.formula,
        reference=kind.reference,
        direction=_DIRECTIONS[kind.direction],
        unit=kind.unit.value,
        minimum=low if math.isfinite(low) else None,
        maximum=high if math.isfinite(high) else None,
        parameters=from_parameters(kind),
        description=" ".join((inspect.getdoc(kind) or "").split()),
        compares=Need.OTHER_MAPS in kind.needs,
        lane=lane_of_metric(kind),
    )
