"""The benchmark of a GPU, tried on the CPU with small networks; without a GPU the document stays as it is."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import gpu
from explainers import GradCam, OptiCam, Tibav
from explainers.arithmetic import _CONVOLUTIONS, _MATRICES, Arithmetic
from tests.explainers.networks import ResidualCnn, ViT, prepare

CPU = torch.device("cpu")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
QUESTIONS = {gpu.PREDICT: None, gpu.GRAD_CAM: GradCam(), gpu.OPTI_CAM: OptiCam(steps=2)}


def missing(_model: nn.Module, _images: torch.Tensor) -> dict[str, gpu.Program]:
    raise ImportError


SMALL = (
    gpu.Subject("cnn", lambda _: prepare(ResidualCnn()), 32, "stage.1", QUESTIONS, lambda *_: {"other": lambda: 1}),
    gpu.Subject(
        "vit", lambda _: prepare(ViT()), 32, "blocks.1.norm1", {**QUESTIONS, gpu.TIBAV: Tibav()}, missing
    ),
)


@pytest.fixture(autouse=True)
def _switches() -> object:
    """The switches of this process are as they were afterwards."""
    before = _CONVOLUTIONS.fp32_precision, _MATRICES.fp32_precision
    yield
    _CONVOLUTIONS.fp32_precision, _MATRICES.fp32_precision = before


def lines(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_every_row_has_figures() -> None:
    """Each network is asked each of its questions, and the other libraries' figures stand beside."""
    text = gpu.report(SMALL, CPU, gpu.Clock(CPU, 60, each=0, least_runs=1), quick=True)
    rows = [line for line in lines(text) if len(line) == len(gpu.HEAD)][2:]
    assert [row[:3] for row in rows] == [[each.name, "1", what] for each in SMALL for what in each.questions]
    for row in rows:
        assert float(row[4]) > 0
        assert (row[5].endswith(" ms"), row[7]) == (True, "1")
        assert float(row[8]) > 0
        assert bool(row[9]) == (row[0] == "cnn" and row[2] == gpu.GRAD_CAM)
    said = [line for line in lines(text) if len(line) == len(gpu.LIKENESS_HEAD)][2:]
    assert [row[:2] for row in said] == [[each.name, what] for each in SMALL for what in each.questions]
    assert said[-1][2:] == ["", "the same bits", "", Arithmetic.FLOAT32]  # TIBAV knows no autocast


def test_when_the_time_is_up_cells_stay_empty() -> None:
    """Rather than the run taking longer than it says."""
    text = gpu.report(SMALL[:1], CPU, gpu.Clock(CPU, 0, each=0, least_runs=1), quick=True)
    rows = [line for line in lines(text) if len(line) == len(gpu.HEAD)][2:]
    assert [row[4:] for row in rows] == [[""] * 6] * 3


def test_figures_of_a_row() -> None:
    """Images a second and the median of the runs, the 99th percentile, and both in plain passes."""
    row = gpu.Row("net", 8, "what", "float32", tuple(n / 1000 for n in range(1, 102)), 0.017, {"other": 0.034})
    assert row.cells()[4:] == ["156.9", "51.0 ms", "100.0 ms", 101, "3.00", "other 2.00"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_the_document_stays(tmp_path: Path) -> None:
    """The program says so and ends."""
    document = tmp_path / "performance.md"
    document.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(SystemExit, match="there is no GPU here"):
        gpu.main(["--output", str(document)])
    assert document.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_the_document_has_measured_figures_or_none() -> None:
    """Its section is either as the program leaves it or empty, and names the command."""
    page = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"<!-- {gpu.SECTION}: begin -->\n(.*?)\n<!-- {gpu.SECTION}: end -->", page, re.DOTALL)
    assert section is not None
    assert section[1] == gpu.empty(gpu.subjects(quick=False)) or "CUDA graphs: resnet50 " in section[1]
    assert gpu.COMMAND in page
