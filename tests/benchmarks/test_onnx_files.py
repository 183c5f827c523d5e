"""A network of each kind works as docs/benchmarks/onnx_files.md says; the command there checks all."""

from pathlib import Path

import pytest
import torch

from benchmarks.onnx_files import examine, line, rows

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "onnx_files.md").read_text(encoding="utf-8")
SMALL = (
    "torchvision:resnet18",
    "torchvision:squeezenet1_1",
    "timm:convnextv2_atto",
    "timm:vit_tiny_patch16_224",
)

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # of torchvision's and timm's own
]


@pytest.mark.parametrize("architecture", SMALL)
def test_a_file_works_as_the_page_says(architecture: str) -> None:
    """Its map, the methods that work on it, and logits as torch's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        finding = examine(next(row for row in rows() if row.architecture == architecture))
    finally:
        torch.set_num_threads(before)
    assert line(finding) in PAGE
    assert finding.difference < 1e-4


def test_the_page_has_every_network() -> None:
    """Those too that only the command checks."""
    assert [row.architecture for row in rows() if f"| `{row.architecture}` | {row.side} |" not in PAGE] == []
