"""One small network of each family is explained as docs/architectures.md says; the command there checks all."""

from pathlib import Path

import pytest
import torch

from benchmarks.architectures import ATTENTION, EVERYWHERE, RECTIFIERS, ROWS, Row, build, examine, line
from tests.real import ROOT
from tests.real_networks import architectures

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")
SMALL = (
    "torchvision:resnet18",
    "timm:mobilenetv1_100",
    "torchvision:mobilenet_v2",
    "timm:mobilenetv3_small_100",
    "torchvision:squeezenet1_1",
    "timm:regnety_002",
    "torchvision:googlenet",
    "timm:convnextv2_atto",
    "timm:vit_tiny_patch16_224",
    "timm:deit_tiny_distilled_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
    "timm:eva02_tiny_patch14_224",
)
BY_NAME = {row.architecture: row for row in ROWS}

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # of torchvision's and timm's own
]


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("architecture", SMALL)
def test_a_network_is_explained_as_the_page_says(architecture: str) -> None:
    """Target layer, grid and methods; every method that needs nothing of a network works on it."""
    finding = examine(BY_NAME[architecture], build(BY_NAME[architecture]))
    assert line(finding) in PAGE
    assert set(finding.methods) >= EVERYWHERE


def test_the_page_has_every_network() -> None:
    """Those too that only the command checks."""
    assert [row.architecture for row in ROWS if f"| `{row.architecture}` | {row.side} |" not in PAGE] == []


@pytest.mark.real
def test_a_trained_network_is_explained_as_the_page_says() -> None:
    """The smallest of them."""
    if not (ROOT / "architectures.py").is_file():
        pytest.skip("no real networks: set WHYLIGHT_REAL")
    module = architectures()
    _, side, (mean, std), _ = module.MODELS["cifar10_resnet20"]
    finding = examine(Row("trained", "cifar10_resnet20", side), module.load("cifar10_resnet20"), mean, std)
    assert line(finding) in PAGE


def test_distilled_heads_are_explained_as_the_network_averages_them() -> None:
    """The CAM family explains the mean of both; methods that follow one class token refuse, all of them."""
    row = BY_NAME["timm:deit_tiny_distilled_patch16_224"]
    model = build(row)
    images = torch.randn(2, 3, row.side, row.side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = model.forward_features(images)  # type: ignore[operator]
        heads = model.head(features[:, 0]), model.head_dist(features[:, 1])  # type: ignore[operator]
        torch.testing.assert_close(model(images), (heads[0] + heads[1]) / 2)
    methods = set(examine(row, model).methods)
    assert not methods & {*ATTENTION, *RECTIFIERS}
