"""The tables of quality figures that the command line prints."""

from collections.abc import Iterable

from rich.table import Column, Table

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import quality_pb2, types_pb2


def figures_table(response: api.ExplainResponse) -> Table:
    """One row for each explained class and metric."""
    table = Table("class", "metric", "value", "better", "parameters")
    for explanation in response.explanations:
        for figure in explanation.quality:
            parameters = ", ".join(f"{name}={_text(value)}" for name, value in sorted(figure.parameters.items()))
            table.add_row(
                explanation.target.label, figure.metric, _value_text(figure), _better(figure.direction), parameters
            )
    return table


def metrics_table(metrics: Iterable[types_pb2.MetricInfo]) -> Table:
    """One row for each metric that can be asked for."""
    table = Table(Column("name", overflow="fold"), "title", "unit", "better", "parameters", "reference")
    for metric in metrics:
        parameters = [f"{each.name}: {each.description}{_default(each)}" for each in metric.parameters]
        if metric.compares:
            parameters.append("needs --compare-with")
        table.add_row(
            metric.name,
            metric.title,
            metric.unit,
            _better(metric.direction),
            "\n".join(parameters),
            metric.reference,
        )
    return table


def _value_text(figure: quality_pb2.QualityFigure) -> str:
    if not figure.HasField("value"):
        return "not defined"
    unit = "" if figure.unit == "number" else f" {figure.unit}"
    return f"{figure.value:.4g}{unit}"


def _text(value: object) -> str:
    """A parameter as it is written on the command line."""
    if value is None:
        return "default"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _better(direction: int) -> str:
    return quality_pb2.MetricDirection.Name(direction).removeprefix("METRIC_DIRECTION_").lower()


def _default(parameter: types_pb2.ParameterInfo) -> str:
    return f" Default: {parameter.default_value}." if parameter.default_value else ""
