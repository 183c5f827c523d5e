"""What works on a network's ONNX file: writes docs/benchmarks/onnx_files.md.

    python -m benchmarks.onnx_files --output docs/benchmarks/onnx_files.md

Each network of torchvision or timm is exported and served as a model of its own, and compared with itself in torch.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.architectures import ROWS, Row, build
from explainers import METHODS, ExplainerError, LayerInfo, Network
from handlers.describe import supported_methods
from runtimes.classifier import load_classifier
from tests.onnx_files import write_onnx

HALF = (0.5, 0.5, 0.5)
CHECKED = (
    "torchvision:resnet18",
    "torchvision:densenet121",
    "torchvision:mobilenet_v2",
    "torchvision:efficientnet_b0",
    "torchvision:regnet_y_400mf",
    "timm:inception_v3",
    "torchvision:vgg11_bn",
    "torchvision:mobilenet_v3_small",
    "torchvision:squeezenet1_1",
    "torchvision:convnext_tiny",
    "timm:convnextv2_atto",
    "timm:vit_tiny_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
)
SIDES = {"torchvision:vgg11_bn": 224}  # the exporter refuses its pooling of smaller maps
GRADIENTS_OF_THE_MAP = {"grad_cam", "grad_cam_plus_plus", "xgrad_cam", "layer_cam", "smooth_grad_cam_plus_plus"}
SCORES_OF_THE_MAP = {"score_cam", "ss_cam", "ablation_cam"}
PIXELS = {"rise", "occlusion", "lime", "kernel_shap", "fake_cam"}


@dataclass(frozen=True)
class Finding:
    """What an ONNX file showed.

    Attributes:
        row: which network.
        layer: that is explained by default; None where there is no map.
        same_grid: whether torch's network explains a map of the same size.
        methods: names of the methods that work.
        difference: largest, of the logits of three images of noise from torch's, as a share of the largest logit.
    """

    row: Row
    layer: LayerInfo | None
    same_grid: bool
    methods: frozenset[str]
    difference: float


def rows() -> list[Row]:
    """The networks to check."""
    by_name = {row.architecture: row for row in ROWS}
    return [replace(by_name[name], side=SIDES.get(name, by_name[name].side)) for name in CHECKED]


def examine(row: Row) -> Finding:
    """Export a network, and ask its file what torch's is asked.

    Raises:
        GraphError: the file is refused.
    """
    size = (row.side, row.side)
    model = build(row)
    with tempfile.TemporaryDirectory() as folder:
        path = write_onnx(model, Path(folder, "net.onnx"), size=size)
        file = Network(load_classifier(path, size, torch.device("cpu")), input_size=size, mean=HALF, std=HALF)
    network = Network(model, input_size=size, mean=HALF, std=HALF)
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = network.predict(images)
    difference = float((file.predict(images) - expected).abs().max() / expected.abs().max())
    layer = _layer(file)
    theirs = network.target_layer
    same_grid = layer is not None and replace(layer, path=theirs.path) == theirs
    return Finding(row, layer, same_grid, frozenset(supported_methods(file)), difference)


def line(finding: Finding) -> str:
    """A network's row of the table, without what rounding decides."""
    layer = finding.layer
    cells = (
        finding.row.family,
        f"`{finding.row.architecture}`",
        str(finding.row.side),
        f"{layer.channels} x {layer.height} x {layer.width}" if layer else "none",
        "yes" if finding.same_grid else "-",
        *(_yes(group, finding) for group in (PIXELS, SCORES_OF_THE_MAP, GRADIENTS_OF_THE_MAP, {"cam"})),
    )
    return "| " + " | ".join(cells) + " |"


def _yes(group: set[str], finding: Finding) -> str:
    return "yes" if group <= finding.methods else "-"


def _layer(network: Network) -> LayerInfo | None:
    try:
        return network.target_layer
    except ExplainerError:
        return None


PAGE = """# Checked ONNX files

<!-- Written by `python -m benchmarks.onnx_files --output docs/benchmarks/onnx_files.md`. -->

Each network was built with random weights and 10 classes, exported by torch's TorchScript exporter with a dynamic
batch, and loaded as [an ONNX file](../add_a_model.md#an-onnx-file). Logits differ from torch's by at most
{difference:.0e} of the largest one. The other [checked architectures](../architectures.md) were not tried.

| family | architecture | input | map | torch's grid | {pixels} | {scores} | {gradients} | CAM |
|---|---|---|---|---|---|---|---|---|
{lines}

**torch's grid**: torch's network explains a map of the same size by default. Where there is no map, it explains tokens.
"""


def page(findings: list[Finding]) -> str:
    """The whole text."""
    titles = [
        ", ".join(METHODS[name].title for name in METHODS if name in group)
        for group in (PIXELS, SCORES_OF_THE_MAP, GRADIENTS_OF_THE_MAP)
    ]
    return PAGE.format(
        difference=max(finding.difference for finding in findings),
        pixels=titles[0],
        scores=titles[1],
        gradients=titles[2],
        lines="\n".join(map(line, findings)),
    )


def main(arguments: list[str] | None = None) -> int:
    """Check all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="default: only print")
    options = parser.parse_args(arguments)
    findings = []
    for row in rows():
        findings.append(examine(row))
        print(line(findings[-1]), f"{findings[-1].difference:.1e}", flush=True)
    if options.output is not None:
        options.output.write_text(page(findings), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
