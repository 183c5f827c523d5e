"""A report as CSV, JSON, Markdown, and for the terminal."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from rich.table import Table

from evaluation.choices import parameters_of
from evaluation.report import Cell, Report
from evaluation.results import write_text
from quality import Metric

ARROWS = {"higher": "↑", "lower": "↓"}
Column = tuple[str, list[str]]
"""A head and a figure for each method."""
BORDERS = 3  # what a column of a rich table takes beside its text


def write_tables(report: Report, folder: Path) -> None:
    """Write table.csv, table.json and table.md."""
    write_text(folder / "table.csv", to_csv(report))
    write_text(folder / "table.json", json.dumps(to_json(report), indent=1, allow_nan=False) + "\n")
    write_text(folder / "table.md", to_markdown(report))


def to_csv(report: Report) -> str:
    """One line for each method; for each metric its value, standard error and number of maps without a value."""
    metrics = report.plan.metrics
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [column for key in metrics for column in (key, f"{key} standard error", f"{key} undefined")]
    writer.writerow(["method", "images", "maps", "degenerate", "seconds", *columns])
    for method, row in report.rows.items():
        cells = [
            value
            for key in metrics
            for value in (
                _exact(row.cells[key].figure.value),
                _exact(row.cells[key].standard_error),
                row.cells[key].figure.undefined,
            )
        ]
        writer.writerow([method, row.images, row.maps, row.degenerate, _exact(row.explain_seconds), *cells])
    return buffer.getvalue()


def _exact(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""


def to_json(report: Report) -> dict[str, Any]:
    """Everything: where the figures come from, what they mean, and what they are."""
    return {
        **report.settings,
        "methods": [_method(report, key) for key in report.plan.methods],
        "metrics": [_metric(report, key) for key in report.plan.metrics],
        "figures": [
            {"method": method, "metric": key, **_figure(cell)}
            for method, row in report.rows.items()
            for key, cell in row.cells.items()
        ],
        "failures": dict(report.failures),
    }


def _method(report: Report, key: str) -> dict[str, Any]:
    method, row = report.plan.methods[key], report.rows[key]
    return {
        "key": key,
        "name": method.name,
        "title": method.title,
        "reference": method.reference,
        "parameters": parameters_of(method),
        "images": row.images,
        "maps": row.maps,
        "degenerate": row.degenerate,
        "explain_seconds_per_image": _or_none(row.explain_seconds),
        "measure_seconds_per_image": _or_none(row.measure_seconds),
    }


def _metric(report: Report, key: str) -> dict[str, Any]:
    metric = report.plan.metrics[key]
    return {
        "key": key,
        "name": metric.name,
        "title": metric.title,
        "formula": metric.formula,
        "reference": metric.reference,
        "better": metric.direction,
        "unit": metric.unit.value,
        "range": [_or_none(end) for end in metric.range],
        "parameters": parameters_of(metric),
    }


def _figure(cell: Cell) -> dict[str, Any]:
    figure = cell.figure
    return {
        "value": _or_none(figure.value),
        "standard_error": _or_none(cell.standard_error),
        "count": figure.count,
        "undefined": figure.undefined,
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_markdown(report: Report) -> str:
    """The figures, what they are of, and what the columns mean."""
    metrics = report.plan.metrics
    heads = ["method", *(f"{metric.title} {ARROWS[metric.direction]}" for metric in metrics.values()), "s / image"]
    lines = [heading(report), "", _line(heads), _line(["---"] * len(heads))]
    for method, row in report.rows.items():
        cells = [rounded(row.cells[key]) for key in metrics]
        lines.append(_line([f"`{method}`", *cells, seconds(row.explain_seconds)]))
    lines += ["", "↑ higher is better, ↓ lower is better: by convention of the field. ± is one standard error.", ""]
    for key, metric in metrics.items():
        undefined = max((row.cells[key].figure.undefined for row in report.rows.values()), default=0)
        note = f" Not defined for up to {undefined} maps of a method." if undefined else ""
        lines.append(f"- **{metric.title}** (`{key}`, {metric.reference}): `` {metric.formula} ``.{note}")
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def heading(report: Report) -> str:
    """The model, the data and the classes that were explained, in one line."""
    model, data = report.settings["model"], report.settings["data"]
    what = "the classes in them" if report.plan.target == "label" else "the predicted class"
    failed = f", {len(report.failures)} of them not readable" if report.failures else ""
    return f"{model['name']} {model['version']} on {data['name']}: {data['images']} images{failed}, explaining {what}"


def to_tables(report: Report, width: int) -> list[Table]:
    """For a terminal of `width` columns: as many tables as its figures need, so that none is broken."""
    columns: list[Column] = [(_head(key, metric), _cells(report, key)) for key, metric in report.plan.metrics.items()]
    columns.append(("s / image", [seconds(row.explain_seconds) for row in report.rows.values()]))
    room = width - BORDERS - 1 - max(len(name) for name in ("method", *report.rows))
    groups: list[list[Column]] = [[]]
    left = room
    for column in columns:
        if BORDERS + _width(column) > left and groups[-1]:
            groups.append([])
            left = room
        groups[-1].append(column)
        left -= BORDERS + _width(column)
    return [_table(report, group, heading(report) if group is groups[0] else None) for group in groups]


def _width(column: Column) -> int:
    """What its longest word and figure need."""
    head, cells = column
    return max(map(len, (*head.split(), *cells)))


def _head(key: str, metric: Metric) -> str:
    return f"{key.replace('_', ' ').replace(':', ' ')} {ARROWS[metric.direction]}"


def _cells(report: Report, key: str) -> list[str]:
    return [rounded(row.cells[key], error=False) for row in report.rows.values()]


def _table(report: Report, columns: list[Column], title: str | None) -> Table:
    table = Table(title=title)
    table.add_column("method", no_wrap=True)
    for column in columns:
        table.add_column(column[0], justify="right", width=_width(column))
    for method, *cells in zip(report.rows, *(cells for _, cells in columns), strict=True):
        table.add_row(method, *cells)
    return table


def rounded(cell: Cell, *, error: bool = True) -> str:
    """A figure for people: percentages with one decimal, all else with three."""
    figure = cell.figure
    if not math.isfinite(figure.value):
        return "n/a"
    places = 1 if figure.metric.unit == "%" else 3
    spread = f" ± {cell.standard_error:.{places}f}" if error and math.isfinite(cell.standard_error) else ""
    return f"{figure.value:.{places}f}{spread}"


def seconds(value: float) -> str:
    """Seconds in three figures."""
    return f"{value:.3g}" if math.isfinite(value) else "n/a"
