"""`whylight evaluate --server`: the same figures as in this process."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from evaluation.cli import evaluate
from service.launch import Launched

pytestmark = pytest.mark.e2e
METRICS = "average_drop,insertion:steps=4,pointing_game,pixel_f1,mean_iou,rank_correlation,entropy"


def run(output: Path, *further: str) -> dict[str, Any]:
    app = typer.Typer()
    app.command()(evaluate)
    arguments = [
        *("--model", "digits-cnn", "--data", "digits", "--limit", "3", "--methods", "grad_cam,occlusion:window=24"),
        *("--metrics", METRICS, "--compare-with", "layer_cam", "--output", str(output), *further),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    table: dict[str, Any] = json.loads((output / "table.json").read_text())
    return table


def test_a_service_gives_the_same_figures(service: Launched, tmp_path: Path) -> None:
    """Those that it computes, and those that are computed here from its maps; the model is known by its digests."""
    here, there = run(tmp_path / "here"), run(tmp_path / "there", "--server", service.address)
    assert there["model"] == here["model"]
    for ours, theirs in zip(here["figures"], there["figures"], strict=True):
        assert (theirs["method"], theirs["metric"]) == (ours["method"], ours["metric"])
        assert theirs["value"] == pytest.approx(ours["value"], abs=2e-3), ours["metric"]
        assert (theirs["count"], theirs["undefined"]) == (6, 0)


def test_what_needs_the_network_is_refused(service: Launched, tmp_path: Path) -> None:
    """Before anything is asked for, with what to do instead."""
    app = typer.Typer()
    app.command()(evaluate)
    usual = ["--data", "digits", "--server", service.address, "--output", str(tmp_path), "--methods", "grad_cam"]
    for further, message in [
        (["--model", "digits-cnn", "--metrics", "official_metric"], "official_metric needs the network itself"),
        (["--model", "digits-cnn", "--metrics", "average_drop_box"], "leave --server out"),
        (["--model", "nope"], "NOT_FOUND"),
    ]:
        result = CliRunner().invoke(app, [*usual, *further])
        assert result.exit_code == 2, result.output
        assert message in result.stderr
    assert not list(tmp_path.iterdir())
