"""A report as a picture: one panel for each metric, the methods in one order."""

import io
import math
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation.report import Report
from evaluation.tables import ARROWS, heading, rounded

# Of the palette of Okabe and Ito, which all kinds of colour vision tell apart.
BAR, EDGE = "#56B4E9", "#0072B2"
COLUMNS = 3


def draw_picture(report: Report) -> bytes:
    """Bars with their standard errors, as PNG."""
    metrics = report.plan.metrics
    columns = min(COLUMNS, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    longest = max(map(len, report.rows))
    size = (0.09 * longest + 3.2 * columns + 0.4, rows * (0.24 * len(report.rows) + 1.1) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading(report), fontsize=11)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for position, key in enumerate(metrics):
        _draw_panel(panels[position // columns][position % columns], report, key)
    panels[0][0].invert_yaxis()  # the first method at the top, in every panel
    for empty in range(len(metrics), rows * columns):
        panels[empty // columns][empty % columns].set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _draw_panel(axes: Any, report: Report, key: str) -> None:
    metric = report.plan.metrics[key]
    cells = [row.cells[key] for row in report.rows.values()]
    values = [cell.figure.value for cell in cells]
    places = list(range(len(values)))
    shown = [value if math.isfinite(value) else 0 for value in values]
    errors = [cell.standard_error if math.isfinite(cell.standard_error) else 0 for cell in cells]
    axes.barh(places, shown, color=BAR, edgecolor=EDGE, linewidth=0.8, xerr=errors, error_kw={"elinewidth": 1})
    for place, start, error, cell in zip(places, shown, errors, cells, strict=True):
        axes.annotate(
            rounded(cell, error=False),
            (max(start + error, 0), place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(places, list(report.rows), fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    parameters = key.partition(":")[2]
    title = f"{metric.title}, {parameters}" if parameters else metric.title
    axes.set_title(f"{title}\n{ARROWS[metric.direction]} {metric.direction} is better", fontsize=9)
    unit = "" if metric.unit in ("share", "number") else str(metric.unit)
    axes.set_xlabel(unit, fontsize=8)
    axes.margins(x=0.14, y=0.02)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def write_picture(report: Report, path: Path) -> None:
    """Write the picture whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(draw_picture(report))
    draft.replace(path)
