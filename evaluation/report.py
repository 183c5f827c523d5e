"""Lines to figures: one for each method and metric, over all images and their explained classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evaluation.backend import Plan
from evaluation.results import Line, Results
from quality import Figure, Metric, summarise


@dataclass(frozen=True)
class Cell:
    """One figure of the table.

    Attributes:
        figure: value, count, and number of maps for which the metric is not defined.
        standard_error: of the value, if other images were drawn; not-a-number where the figure is no mean, or of fewer
            than two images. Maps of one image count as one draw.
    """

    figure: Figure
    standard_error: float


@dataclass(frozen=True)
class Row:
    """What there is to say of one method.

    Attributes:
        images: number of them that were explained.
        maps: number of explained classes.
        degenerate: number of maps that are constant.
        explain_seconds: mean for an image.
        measure_seconds: mean for an image, for all metrics.
        cells: by the text form of the metric.
    """

    images: int
    maps: int
    degenerate: int
    explain_seconds: float
    measure_seconds: float
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Report:
    """The whole table.

    Attributes:
        plan: what was measured.
        settings: all that the figures depend on, for the provenance.
        rows: by the text form of the method, in the order of the plan.
        failures: images that could not be evaluated, and why.
    """

    plan: Plan
    settings: Mapping[str, Any]
    rows: Mapping[str, Row]
    failures: Mapping[str, str]


def make_report(plan: Plan, settings: Mapping[str, Any], results: Results) -> Report:
    """The figures of all lines of the plan's methods."""
    lines = {method: results.lines(method) for method in plan.methods}
    failures = {line["item"]: line["error"] for found in lines.values() for line in found if "error" in line}
    rows = {
        method: _row([line for line in found if "error" not in line], plan.metrics) for method, found in lines.items()
    }
    return Report(plan, settings, rows, failures)


def _row(lines: Sequence[Line], metrics: Mapping[str, Metric]) -> Row:
    return Row(
        images=len(lines),
        maps=sum(len(line["targets"]) for line in lines),
        degenerate=sum(sum(line["degenerate"]) for line in lines),
        explain_seconds=_mean([line["explain_seconds"] for line in lines]),
        measure_seconds=_mean([line["measure_seconds"] for line in lines]),
        cells={key: _cell(metric, [line["values"][key] for line in lines]) for key, metric in metrics.items()},
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _cell(metric: Metric, images: Sequence[Sequence[Any]]) -> Cell:
    """The figure of the values of each image."""
    rows = [value for values in images for value in values]
    width = next((len(value) for value in rows if isinstance(value, list)), None)
    blank: Any = math.nan if width is None else [math.nan] * width
    values = torch.tensor([blank if value is None else value for value in rows], dtype=torch.float64)
    figure = summarise(metric, [values])
    is_mean = width is None and type(metric).aggregate is Metric.aggregate
    owner = torch.tensor([index for index, group in enumerate(images) for _ in group], dtype=torch.long)
    return Cell(figure, _standard_error(values, owner) if is_mean else math.nan)


def _standard_error(values: Tensor, owner: Tensor) -> float:
    """Of the mean of all values, where those of one owner are drawn together."""
    defined = values.isfinite()
    values, owner = values[defined], owner[defined]
    groups = len(set(owner.tolist()))
    if groups < 2:
        return math.nan
    sums = torch.zeros(int(owner.max()) + 1, dtype=torch.float64)
    sums.index_add_(0, owner, values - values.mean())
    return math.sqrt(float(sums.square().sum()) * groups / (groups - 1)) / len(values)
