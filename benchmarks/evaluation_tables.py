"""Every method measured as in the papers, on the default models and on the real networks.

`python -m benchmarks.evaluation_tables [--pairs 12] [--photographs 5] [--output docs/benchmarks/evaluation.md]`

Runs `whylight evaluate` for each model and puts its tables into one document, below what was written there by hand.
What it has measured stays in build/evaluation/, so that a run that was cut off goes on there. Takes some two minutes a
photograph and network.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import machine
from explainers import METHODS
from tests.real import MODELS, require_real, write_real_manifest

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "evaluation"
DIGITS = ("digits-cnn", "digits-vit")
ATTENTION = {"attention_flow", "attention_rollout", "raw_attention", "tibav"}
# Methods that a model has no use for: the command refuses what it can't do.
WITHOUT = {
    "digits-cnn": ATTENTION,
    "digits-vit": {"cam", "lrp"},
    "mobilenet": ATTENTION,
    "squeezenet": ATTENTION | {"cam"},
    "vit-tiny": {"cam", "lrp", "guided_backprop", "guided_grad_cam"},
}
# Fewer samples than by default where a method takes thousands of passes.
FEWER = {
    "extremal_perturbation": "steps=100",
    "kernel_shap": "samples=200",
    "lime": "samples=200",
    "rise": "samples=300",
    "ss_cam": "samples=1",
}
# What takes minutes for each photograph of a real network.
SLOW = {"extremal_perturbation", "kernel_shap", "lime", "occlusion", "rise", "score_cam", "ss_cam"}
PAIRS, PHOTOGRAPHS = 12, 5
MARK = "<!-- From here on written by benchmarks/evaluation_tables.py; what is above stays. -->"
UNDEFINED = " Not defined for"  # as in table.md
METRICS = (
    "average_drop,average_gain,average_increase,insertion:steps=14,deletion:steps=14,"
    "energy_pointing_game,pointing_game,pixel_f1,localisation_error"
)


def photographs(folder: Path, count: int) -> Path:
    """A catalogue of those photographs whose class at least two of the networks name right.

    Only of these the class that is explained is one that the networks see. First those that all of them name right, of
    these first those with boxes.
    """
    root = require_real()
    names = [folder_name for folder_name, *_ in MODELS.values()]
    rows = []
    for record in json.loads((root / "images.json").read_text(encoding="utf-8")):
        right = sum(record["top1"][name] in record["imagenet_classes"] for name in names)
        if right > 1:
            rows.append((-right, not record["boxes"], record["file"], record))
    chosen = [record for *_, record in sorted(rows, key=lambda row: row[:3])][:count]
    catalogue = folder / "photographs"
    catalogue.mkdir()
    (catalogue / "images").symlink_to(root / "images")
    (catalogue / "images.json").write_text(json.dumps(chosen), encoding="utf-8")
    return catalogue


def evaluate(model: str, manifest: Path | None, data: str, limit: int, without: frozenset[str] = frozenset()) -> Path:
    """Run the command for one model, without some methods; gives the folder of its results."""
    folder = WORK / model
    command = [sys.executable, "-m", "evaluation", "--model", model, "--data", data, "--limit", str(limit)]
    methods = [
        ":".join(filter(None, (name, FEWER.get(name)))) for name in METHODS if name not in WITHOUT[model] | without
    ]
    command += ["--methods", ",".join(methods), "--metrics", METRICS, "--output", str(folder), "--device", "cpu"]
    command += ["--manifest", str(manifest)] if manifest is not None else []
    # One photograph at once: its figures then don't depend on which others are measured.
    command += ["--format", "catalogue", "--batch", "1"] if manifest is not None else []
    print(model)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment)  # noqa: S603
    return folder


def section(model: str, folder: Path, images: Path) -> list[str]:
    """One model's part of the document."""
    heading, *lines = (folder / "table.md").read_text(encoding="utf-8").splitlines()
    picture = images / f"evaluation_{model}.png"
    shutil.copyfile(folder / "picture.png", picture)
    table = [line for line in lines if line.startswith("|")]
    return ["", f"## {heading}", "", *table, *_undefined(lines), "", f"![The same as bars](../images/{picture.name})"]


def _undefined(lines: list[str]) -> list[str]:
    """Which metrics have no value for some maps, and for how many."""
    titles: dict[str, list[str]] = {}
    for line in lines:
        title, found, note = line.removeprefix("- **").partition(UNDEFINED)
        if line.startswith("- **") and found:
            titles.setdefault(f"{UNDEFINED.strip()}{note}", []).append(title.partition("**")[0])
    return [text for note, names in titles.items() for text in ("", f"{', '.join(names)}: {note[0].lower()}{note[1:]}")]


def definitions(folder: Path) -> list[str]:
    """What the columns mean; the same for all models."""
    lines = (folder / "table.md").read_text(encoding="utf-8").splitlines()
    found = [line.partition(UNDEFINED)[0].rstrip() for line in lines if line.startswith("- **")]
    return ["", "## What the columns mean", "", next(line for line in lines if line.startswith("↑")), "", *found]


def findings(output: Path) -> list[str]:
    """What a person wrote above the tables: it stays."""
    if not output.is_file():
        return ["# Every method, measured", ""]
    text = output.read_text(encoding="utf-8")
    return [*text.partition(MARK)[0].rstrip().splitlines(), ""]


def measure(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """Each model with the folder of its results."""
    runs = []
    without = frozenset(SLOW if arguments.quick else ())
    with tempfile.TemporaryDirectory() as folder:
        real = [name for name in arguments.models.split(",") if name in MODELS]
        data = str(photographs(Path(folder), arguments.photographs)) if real else ""
        manifest = write_real_manifest(Path(folder)) if real else None
        for model in arguments.models.split(","):
            if model in DIGITS:
                runs.append((model, evaluate(model, None, "digits", arguments.pairs)))
            else:
                runs.append((model, evaluate(model, manifest, data, arguments.photographs, without)))
    return runs


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="photographs with two digits, for each default model")
    parser.add_argument("--photographs", type=int, default=PHOTOGRAPHS, help="for each real network")
    parser.add_argument("--quick", action="store_true", help=f"real networks without {', '.join(sorted(SLOW))}")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks" / "evaluation.md")
    parser.add_argument("--models", default=",".join((*DIGITS, *MODELS)), help="between commas")
    arguments = parser.parse_args()
    runs = measure(arguments)
    lines = findings(arguments.output)
    lines += [
        MARK,
        "",
        f"`python -m benchmarks.evaluation_tables --pairs {arguments.pairs} --photographs {arguments.photographs} "
        f"--models {arguments.models}{' --quick' if arguments.quick else ''}`, {machine()}.",
        "",
        "Seconds are those of the maps, beside other work: rough. ± is one standard error.",
    ]
    for model, results in runs:
        lines += section(model, results, arguments.output.parent.parent / "images")
    lines += definitions(runs[0][1])
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
