"""What the documentation shows is what happens."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from model_store.digits.samples import SAMPLES_FOLDER
from service.launch import Launched
from tests.e2e.test_service import SAMPLE

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


def test_the_readmes_python_runs_as_it_stands(service: Launched, tmp_path: Path) -> None:
    """The README's client call, pasted into a file, prints two classes and writes their pictures."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    shutil.copy(SAMPLES_FOLDER / SAMPLE["image"], tmp_path / "photo.jpg")
    (tmp_path / "call.py").write_text(code.group(1).replace("127.0.0.1:50051", service.address))
    done = subprocess.run(
        [sys.executable, "call.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    for label in SAMPLE["labels"]:
        Image.open(tmp_path / f"why_{label}.png").verify()


def test_the_clients_examples_run_as_they_stand(service: Launched, tmp_path: Path) -> None:
    """Every Python block of docs/client.md, one after the other: they print what they say and write their pictures."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)
    assert len(blocks) == 6
    shutil.copy(SAMPLES_FOLDER / SAMPLE["image"], tmp_path / "photo.jpg")
    (tmp_path / "examples.py").write_text("\n".join(blocks).replace("127.0.0.1:50051", service.address))
    done = subprocess.run(
        [sys.executable, "examples.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {"SUCCEEDED", "RUNNING", "QUEUED"} & set(lines)
    assert "MODEL_NOT_FOUND" in lines
    assert any(line.startswith("targets") for line in lines)  # the violation of a class that is not there
    for label in SAMPLE["labels"]:
        Image.open(tmp_path / f"why_{label}.png").verify()
    assert Image.open(tmp_path / "why.png").size == Image.open(tmp_path / "photo.jpg").size


def test_the_demo_draws_an_explanation(tmp_path: Path) -> None:
    """`make demo` prints the classes of both models and draws a sheet of two rows and three columns."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py", "--output", tmp_path],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "digits-cnn" in done.stdout
    assert "digits-vit" in done.stdout
    width, height = Image.open(tmp_path / "explanation.png").size
    assert width > height > 600
