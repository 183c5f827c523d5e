"""Figures and tables against values worked out by hand."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from evaluation.backend import Plan, Value
from evaluation.choices import parse_methods, parse_metrics
from evaluation.picture import draw_picture
from evaluation.report import Report, make_report
from evaluation.results import open_results
from evaluation.runner import run
from evaluation.tables import to_csv, to_json, to_markdown, to_tables, write_tables
from tests.evaluation.worlds import Clockwork, numbered

SETTINGS: dict[str, Any] = {
    "model": {"name": "clock", "version": "1"},
    "data": {"name": "numbers", "images": 4},
    "methods": {},
}

# Two images with two maps, one with one, and image 3 can't be read.
VALUES: dict[str, list[list[Value]]] = {
    "grad_cam": [[10.0, 20.0], [None, 60.0], [30.0]],
    "gradient": [[None, None], [None, None], [None]],
}


def report(folder: Path, metrics: str = "average_drop", values: dict[str, list[list[Value]]] = VALUES) -> Report:
    def value(method: str, number: int) -> Sequence[Value]:
        return values[method][number]

    plan = Plan(parse_methods([",".join(values)]), parse_metrics([metrics]))
    with open_results(folder, SETTINGS) as results:
        run(plan, Clockwork(value, broken=[3]), numbered(4), results, batch=2, advance=lambda method, images: None)
        return make_report(plan, SETTINGS, results)


def test_a_figure_is_the_mean_of_what_is_defined(tmp_path: Path) -> None:
    """(10 + 20 + 60 + 30) / 4 = 30, one map has no value; the sums of the images' deviations are -30, 30 and 0."""
    row = report(tmp_path).rows["grad_cam"]
    cell = row.cells["average_drop"]
    assert (cell.figure.value, cell.figure.count, cell.figure.undefined) == (30, 4, 1)
    assert cell.standard_error == pytest.approx(math.sqrt((900 + 900 + 0) * 3 / 2) / 4)
    assert (row.images, row.maps, row.degenerate) == (3, 5, 0)
    assert (row.explain_seconds, row.measure_seconds) == (0.25, 0.5)


def test_a_method_without_any_value_has_no_figure(tmp_path: Path) -> None:
    """Nothing is made up: not-a-number here, nothing in the files, n/a for people."""
    found = report(tmp_path)
    cell = found.rows["gradient"].cells["average_drop"]
    assert math.isnan(cell.figure.value)
    assert (cell.figure.count, cell.figure.undefined) == (0, 5)
    assert to_json(found)["figures"][1]["value"] is None
    assert "| `gradient` | n/a |" in to_markdown(found)


def test_a_figure_that_is_no_mean_is_found_by_its_metric(tmp_path: Path) -> None:
    """MaxBoxAcc: hits at two thresholds; the second one hits 2 of 3 maps. A map without a box is left out."""
    values: dict[str, list[list[Value]]] = {"grad_cam": [[[1.0, 1.0]], [[0.0, 1.0], None], [[0.0, 0.0]]]}
    cell = report(tmp_path, "max_box_accuracy:thresholds=2", values).rows["grad_cam"].cells
    found = cell["max_box_accuracy:thresholds=2"]
    assert found.figure.value == pytest.approx(2 / 3)
    assert (found.figure.count, found.figure.undefined) == (3, 1)
    assert math.isnan(found.standard_error)


def test_the_tables_hold_the_same_figures(tmp_path: Path) -> None:
    """CSV and JSON exactly, Markdown rounded; the JSON says where they come from and what they mean."""
    found = report(tmp_path)
    write_tables(found, tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert (rows[0]["method"], rows[0]["average_drop"], rows[0]["average_drop undefined"]) == ("grad_cam", "30.0", "1")
    assert (rows[1]["average_drop"], rows[1]["average_drop undefined"]) == ("", "5")
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["figures"][0] == {
        "method": "grad_cam",
        "metric": "average_drop",
        "value": 30.0,
        "standard_error": pytest.approx(12.99, abs=0.01),
        "count": 4,
        "undefined": 1,
    }
    assert table["model"] == SETTINGS["model"]
    assert table["methods"][0]["parameters"] == {"layer": None}
    metric = table["metrics"][0]
    assert (metric["better"], metric["unit"], metric["range"]) == ("lower", "%", [0, 100])
    assert "max(0, p - o)" in metric["formula"]
    assert table["failures"] == {"3": "unreadable"}
    text = (tmp_path / "table.md").read_text()
    assert "Average drop (AD) ↓" in text
    assert "| `grad_cam` | 30.0 ± 13.0 | 0.25 |" in text
    assert "4 images, 1 of them not readable" in text


@pytest.mark.parametrize(("width", "tables"), [(60, 4), (80, 2), (200, 1)])
def test_the_terminal_shows_every_figure(tmp_path: Path, width: int, tables: int) -> None:
    """Also in a narrow window, where there are more tables; no figure and no word is broken."""
    metrics = (
        "average_drop",
        "average_gain",
        "average_increase",
        "entropy",
        "insertion",
        "deletion",
        "gini_sparseness",
    )
    values = {"smooth_grad_cam_plus_plus": VALUES["grad_cam"], "grad_cam": VALUES["grad_cam"]}
    found = to_tables(report(tmp_path, ",".join(metrics), values), width)
    buffer = io.StringIO()
    for table in found:
        Console(file=buffer, width=width).print(table)
    text = buffer.getvalue()
    assert len(found) == tables
    assert (text.count("30.0 "), text.count("30.000 "), text.count("0.25 ")) == (2 * 3, 2 * 4, 2)
    assert text.count("smooth_grad_cam_plus_plus") == tables
    assert all(word in text for metric in metrics for word in metric.split("_"))


def test_the_picture_has_a_panel_for_each_metric(tmp_path: Path) -> None:
    """A PNG that grows with the number of metrics and says n/a where there is no figure."""
    one, four = (
        Image.open(io.BytesIO(draw_picture(report(tmp_path / str(count), ",".join(names)))))
        for count, names in enumerate((["average_drop"], ["average_drop", "entropy", "insertion", "deletion"]))
    )
    assert one.format == "PNG"
    assert four.width > one.width
    assert four.height > one.height


def test_csv_has_one_line_for_each_method(tmp_path: Path) -> None:
    """And a head."""
    assert len(to_csv(report(tmp_path)).splitlines()) == 3
