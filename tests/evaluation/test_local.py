"""The whole way in this process, and the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from evaluation.backend import Plan
from evaluation.choices import parse_methods, parse_metrics
from evaluation.cli import evaluate
from evaluation.data import Order, open_data
from evaluation.local import open_model
from evaluation.names import ClassNames
from explainers import METHODS, Classes
from handlers.preprocess import geometry, to_input
from model_store.manifest import DEFAULT_MANIFEST, load_manifest
from quality import METRICS, Evidence, explain_by
from tests.evaluation.worlds import write_image, write_mask
from tests.tiny import write_tiny

app = typer.Typer()
app.command()(evaluate)

METHOD_TEXT = "grad_cam,gradient"
METRIC_TEXT = "average_drop,insertion:steps=2,pointing_game,mean_iou,max_sensitivity:samples=1"


def whylight_evaluate(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def refused(result: Any) -> str:
    """The one line that the command prints when it refuses."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert "Traceback" not in result.output
    return str(line)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs of digits by two methods."""
    output = tmp_path_factory.mktemp("finished")
    result = whylight_evaluate(
        *("--model", "digits-cnn", "--data", "digits", "--limit", 4, "--batch", 3, "--output", output),
        *("--methods", METHOD_TEXT, "--metrics", METRIC_TEXT),
    )
    assert result.exit_code == 0, result.output
    assert "grad_cam" in result.stdout
    return output


def test_every_figure_is_what_quality_says(finished: Path) -> None:
    """Digit by digit, with ground truth put together here: image, boxes and masks as the sample has them."""
    network = open_model("digits-cnn", DEFAULT_MANIFEST, "cpu")._model.network
    items = open_data(Order("digits", limit=4), ClassNames(tuple(map(str, range(10))))).items
    metrics = parse_metrics([METRIC_TEXT])
    lines = [json.loads(line) for line in (finished / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    for name, method in parse_methods([METHOD_TEXT]).items():
        for item in items:
            (line,) = (each for each in lines if (each["item"], each["method"]) == (item.id, name))
            classes = tuple(target for (target,) in item.targets)
            assert line["targets"] == list(classes)
            image = torch.from_numpy(item.image).permute(2, 0, 1)[None].float() / 255  # type: ignore[arg-type]
            (result,) = method.explain(network, image, [Classes(classes)])
            evidence = Evidence(
                image,
                (classes,),
                torch.stack([each.map for each in result.explanations]),
                network=network,
                boxes=tuple(torch.tensor(region.boxes) for region in item.regions),
                masks=torch.stack([torch.from_numpy(region.mask.load()) for region in item.regions]),  # type: ignore[union-attr]
                explain=explain_by(method),
            )
            for key, metric in metrics.items():
                assert line["values"][key] == pytest.approx(metric.values(evidence).tolist(), abs=2e-3), key


def test_the_results_are_whole(finished: Path) -> None:
    """Tables, picture and provenance."""
    table = json.loads((finished / "table.json").read_text())
    digest = next(entry.sha256 for entry in load_manifest(DEFAULT_MANIFEST).models if entry.name == "digits-cnn")
    assert table["model"]["weights_digest"] == f"sha256:{digest}"
    assert table["methods"][0]["parameters"]["layer"]  # resolved
    assert table["library_versions"]["torch"] == torch.__version__
    assert table["data"]["images"] == 4
    assert len(table["figures"]) == 2 * 5
    assert all(figure["count"] + figure["undefined"] == 8 for figure in table["figures"])
    assert Image.open(finished / "picture.png").format == "PNG"
    assert len((finished / "table.csv").read_text().splitlines()) == 3


def test_a_killed_run_goes_on(tmp_path: Path, finished: Path) -> None:
    """The process is killed while it works; the same command then gives the table of a run that nobody disturbed."""
    command = [
        *(sys.executable, "-m", "evaluation", "--model", "digits-cnn", "--data", "digits", "--limit", "4"),
        *("--batch", "3", "--output", str(tmp_path), "--methods", METHOD_TEXT, "--metrics", METRIC_TEXT),
    ]
    process = subprocess.Popen(command, env={**os.environ, "COLUMNS": "200"}, stderr=subprocess.PIPE)
    results = tmp_path / "results.jsonl"
    deadline = time.monotonic() + 60
    while not (results.exists() and results.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert results.stat().st_size > 0
    assert whylight_evaluate(*command[3:]).exit_code == 0
    assert figures(tmp_path) == figures(finished)


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, with the status of an interrupted program."""

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluation.session.evaluate_request", interrupted)
    result = whylight_evaluate("--model", "digits-cnn", "--data", "digits")
    assert (result.exit_code, result.stderr) == (130, "stopped; the same command goes on from here\n")


def figures(folder: Path) -> list[Any]:
    """What has no times in it."""
    found: list[Any] = json.loads((folder / "table.json").read_text())["figures"]
    return found


def test_a_change_of_settings_is_noticed(finished: Path) -> None:
    """Other data, another model, another parameter of a metric."""
    usual = {
        "--model": "digits-cnn",
        "--data": "digits",
        "--limit": 4,
        "--output": finished,
        "--methods": METHOD_TEXT,
        "--metrics": METRIC_TEXT,
    }
    for change, named in [
        ({"--limit": 5}, "data"),
        ({"--seed": 1}, "data"),
        ({"--model": "digits-vit", "--methods": "gradient"}, "model"),
        ({"--metrics": "average_drop"}, "metrics"),
        ({"--target": "predicted"}, "target"),
    ]:
        arguments = [each for pair in {**usual, **change}.items() for each in pair]
        assert named in refused(whylight_evaluate(*arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "nope"), "no method 'nope'"),
        (("--metrics", "nope"), "no metric 'nope'"),
        (("--metrics", "insertion:steps=0"), "steps must be"),
        (("--data", "missing-folder"), "no folder missing-folder"),
        (("--model", "nope"), "no model 'nope'"),
        (("--manifest", "missing.toml"), "no manifest"),
        (("--methods", "tibav"), "tibav: the method needs a plain vision transformer"),
        (("--metrics", "win_percentage"), "--compare-with"),
        (("--compare-with", "grad_cam,gradient"), "takes one method"),
        (("--device", "abacus"), "no device 'abacus'"),
        (("--server", "127.0.0.1:1", "--manifest", "x"), "exclude each other"),
        (("--server", "127.0.0.1:1"), "no service answers"),
        (("--classes", "missing.json"), "no file missing.json"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    """With exit status 2, without a traceback, and without leaving anything behind."""
    monkeypatch.chdir(tmp_path)
    usual = ("--model", "digits-cnn", "--data", "digits", "--methods", "grad_cam", "--limit", 1)
    assert message in refused(whylight_evaluate(*usual, *arguments))
    assert not list(tmp_path.iterdir())


def test_a_layer_that_does_not_exist_is_refused_beside_all_methods(tmp_path: Path) -> None:
    """Only what is not defined for the network is left out, no mistake."""
    arguments = ("--model", "digits-cnn", "--data", "digits", "--limit", 1, "--output", tmp_path)
    message = refused(whylight_evaluate(*arguments, "--methods", "all,grad_cam:layer=attic"))
    assert "grad_cam:layer=attic: the network has no such layer" in message


def test_images_without_boxes_leave_the_metrics_of_boxes_out(tmp_path: Path) -> None:
    """By default; one that was named is refused. A file that is no image is counted and named, once."""
    manifest = write_tiny(tmp_path / "model")
    for name in ("a", "b"):
        write_image(tmp_path / "data" / "bee" / f"{name}.png", 40, 30)
    (tmp_path / "data" / "ant").mkdir()
    (tmp_path / "data" / "ant" / "c.png").write_text("no image")
    usual = ("--model", "tiny", "--manifest", manifest, "--data", tmp_path / "data", "--methods", "grad_cam")
    metrics = ("--metrics", "average_drop,pointing_game")
    assert "pointing_game needs boxes" in refused(whylight_evaluate(*usual, "--output", tmp_path / "out", *metrics))
    result = whylight_evaluate(*usual, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "ant/c.png: not an image" in result.stderr
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [metric["name"] for metric in table["metrics"]] == [
        "average_drop",
        "average_gain",
        "average_increase",
        "insertion",
        "deletion",
    ]
    assert table["methods"][0]["images"] == 2
    assert table["failures"] == {"ant/c.png": "not an image, or not JPEG, PNG, WebP or BMP"}


def test_all_methods_are_those_that_work(tmp_path: Path) -> None:
    """Without --methods the network decides; the predicted class is explained where no class is known."""
    manifest = write_tiny(tmp_path / "model")
    write_image(tmp_path / "data" / "images" / "a.png", 40, 30)
    write_mask(tmp_path / "data" / "masks" / "a.png", [[0] * 20 + [255] * 20] * 30)
    result = whylight_evaluate(
        *("--model", "tiny", "--manifest", manifest, "--data", tmp_path / "data", "--target", "predicted"),
        *("--metrics", "mean_iou,energy_pointing_game,win_percentage", "--output", tmp_path / "out"),
        *("--compare-with", "gradient", "--methods", "all,smooth_grad:samples=2"),
    )
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    names = {method["name"] for method in table["methods"]}
    assert {"grad_cam", "gradient"} <= names < METHODS.keys()
    assert "tibav" not in names
    assert table["compare_with"]["name"] == "gradient"


def test_boxes_go_through_the_crop_of_the_model(tmp_path: Path) -> None:
    """End to end with `crop`: the evidence's boxes are where the cropped picture shows the object."""
    manifest = write_tiny(tmp_path / "model")
    text = manifest.read_text().replace("size = 32", 'size = 32\nresize = "crop"\nshort_side = 40')
    manifest.write_text(text)
    folder = tmp_path / "data"
    write_mask(folder / "masks" / "a.png", [[0] * 80] * 20 + [[0] * 30 + [1] * 30 + [0] * 20] * 10 + [[0] * 80] * 30)
    picture = Image.new("RGB", (80, 60))
    picture.paste((255, 255, 255), (30, 20, 60, 30))
    (folder / "images").mkdir()
    picture.save(folder / "images" / "a.png")
    local = open_model("tiny", manifest, "cpu")
    plan = Plan({}, parse_metrics(["pixel_f1,mean_iou"]), target="predicted")
    data = open_data(Order(str(folder), target="predicted"), ClassNames(local.labels))
    content = local.prepare(data.items, plan).content
    preprocessing = local._model.document.preprocessing
    seen = to_input(picture, geometry((60, 80), preprocessing), preprocessing)
    assert torch.equal(content.images[0], seen)
    # 80 x 60 becomes 53 x 40, of which the middle 32 x 32 begin at (10, 4)
    scale = 53 / 80, 40 / 60
    expected = [30 * scale[0] - 10, 20 * scale[1] - 4, 60 * scale[0] - 10, 30 * scale[1] - 4]
    assert content.truth["boxes"][0].tolist()[0] == pytest.approx(expected)
    assert (seen[0][content.truth["masks"][0]] > 0.3).all()
    assert content.truth["masks"].sum() == pytest.approx(20 * 6.67, abs=20)


def test_every_metric_can_be_computed(tmp_path: Path) -> None:
    """All of the registry, with what they need: boxes, masks, the other method, the module."""
    quick = {
        "insertion": "steps=2",
        "deletion": "steps=2",
        "max_sensitivity": "samples=1",
        "infidelity": "samples=2",
        "model_randomisation": "stages=4",
        "max_box_accuracy": "thresholds=3",
        "max_box_accuracy_v2": "thresholds=3",
    }
    texts = [f"{name}:{quick[name]}" if name in quick else name for name in METRICS]
    result = whylight_evaluate(
        *("--model", "digits-cnn", "--data", "digits-single", "--limit", 2, "--output", tmp_path),
        *("--methods", "grad_cam", "--metrics", ",".join(texts), "--compare-with", "layer_cam"),
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "table.json").read_text())["figures"]
    assert len(found) == len(METRICS)
    assert [figure["metric"] for figure in found if figure["value"] is None] == []
