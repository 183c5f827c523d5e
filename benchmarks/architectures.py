"""Which architectures work, and how each is explained: writes docs/architectures.md.

    python -m benchmarks.architectures --output docs/architectures.md

Networks of torchvision and timm get random weights, and small images where they take them; the real ones have their own
and are left out where they are not there (`tests/real.py`). A network that fails ends the run.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explainers import METHODS, ExplainerError, LayerInfo, Network, TopK
from handlers.describe import supported_methods
from handlers.torchvision_shim import ensure_operators
from tests.real import ROOT
from tests.real_networks import architectures

HALF = (0.5, 0.5, 0.5)
CLASSES = 10
REAL = ("vit_tiny_patch16_224", "mobilenet_v2_1.0_224", "squeezenet1_1", "cifar10_resnet20")
# In the table by name; most networks have all others.
ATTENTION = ("tibav", "attention_rollout", "attention_flow", "raw_attention")
RECTIFIERS = ("guided_backprop", "guided_grad_cam")
APART = ("cam", "opti_cam", "lrp", *ATTENTION, *RECTIFIERS)
EVERYWHERE = METHODS.keys() - set(APART) | {"opti_cam"}


@dataclass(frozen=True)
class Row:
    """A network to check.

    Attributes:
        family: as people call it.
        architecture: as the manifest has it, or the name of a real network.
        side: of its images.
        arguments: of the constructor, besides the number of classes.
    """

    family: str
    architecture: str
    side: int = 64
    arguments: dict[str, Any] = field(default_factory=dict)


ROWS = (
    Row("ResNet", "torchvision:resnet18"),
    Row("ResNet", "timm:resnet18"),
    Row("VGG", "torchvision:vgg11_bn"),
    Row("DenseNet", "torchvision:densenet121"),
    Row("DenseNet", "timm:densenet121"),
    Row("MobileNet V1", "timm:mobilenetv1_100"),
    Row("MobileNet V2", "torchvision:mobilenet_v2"),
    Row("MobileNet V3", "torchvision:mobilenet_v3_small"),
    Row("MobileNet V3", "timm:mobilenetv3_small_100"),
    Row("EfficientNet", "torchvision:efficientnet_b0"),
    Row("EfficientNet", "timm:efficientnet_b0"),
    Row("ConvNeXt", "torchvision:convnext_tiny"),
    Row("ConvNeXt V2", "timm:convnextv2_atto"),
    Row("SqueezeNet", "torchvision:squeezenet1_1"),
    Row("RegNet", "torchvision:regnet_y_400mf"),
    Row("RegNet", "timm:regnety_002"),
    Row("Inception V3", "torchvision:inception_v3", 128, {"init_weights": False}),
    Row("Inception V3", "timm:inception_v3", 128),
    Row("GoogLeNet", "torchvision:googlenet", 64, {"init_weights": False}),
    Row("ViT", "torchvision:vit_b_16", 64, {"image_size": 64}),
    Row("ViT", "timm:vit_tiny_patch16_224", 64, {"img_size": 64}),
    Row("DeiT", "timm:deit_tiny_patch16_224", 64, {"img_size": 64}),
    Row("DeiT, distilled", "timm:deit_tiny_distilled_patch16_224", 64, {"img_size": 64}),
    Row("Swin", "torchvision:swin_t"),
    Row("Swin", "timm:swin_tiny_patch4_window7_224", 64, {"img_size": 64}),
    Row("Swin V2", "torchvision:swin_v2_t"),
    Row("BEiT", "timm:beit_base_patch16_224", 64, {"img_size": 64}),
    Row("EVA-02", "timm:eva02_tiny_patch14_224", 56, {"img_size": 56}),
)


@dataclass(frozen=True)
class Finding:
    """What a network showed.

    Attributes:
        row: which network.
        layer: that is explained by default.
        methods: names of the methods that work.
        explained: by method, whether its map of the predicted class has any contrast.
    """

    row: Row
    layer: LayerInfo
    methods: tuple[str, ...]
    explained: dict[str, bool]


def build(row: Row) -> nn.Module:
    """The network with random weights, the same every time."""
    ensure_operators()
    library, _, name = row.architecture.partition(":")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if library == "timm":
            import timm

            model = timm.create_model(name, num_classes=CLASSES, **row.arguments)
        else:
            import torchvision

            model = torchvision.models.get_model(name, num_classes=CLASSES, **row.arguments)
        return _awake(model.eval(), torch.randn(4, 3, row.side, row.side))


def _awake(model: nn.Module, images: Tensor) -> nn.Module:
    """Random weights whose answers depend on the image: statistics of the norms, and no matrix of zeros."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2 and not parameter.count_nonzero():
                parameter.normal_(std=0.02)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.train()
        if norms:
            model(images)
    return model.eval()


def examine(row: Row, model: nn.Module, mean: Iterable[float] = HALF, std: Iterable[float] = HALF) -> Finding:
    """Prepare a network, and explain noise by Grad-CAM, and by Opti-CAM and TIBAV where they work.

    Raises:
        ExplainerError: it has no layer to explain, or one of them fails.
    """
    network = Network(model, input_size=(row.side, row.side), mean=tuple(mean), std=tuple(std))
    layer = network.target_layer
    methods = supported_methods(network)
    image = torch.rand(1, 3, row.side, row.side, generator=torch.Generator().manual_seed(0))
    tried: dict[str, dict[str, Any]] = {"grad_cam": {}, "opti_cam": {"steps": 5}, "tibav": {}}
    explained = {}
    for name, parameters in tried.items():
        if name in methods:
            (found,) = METHODS[name](**parameters).explain(network, image, [TopK()])[0].explanations
            if not bool(found.map.isfinite().all()):
                raise ExplainerError(f"{name}: a map is not finite")
            explained[name] = not found.degenerate
    return Finding(row, layer, methods, explained)


def real_findings(report: Callable[[Finding], None]) -> None:
    """The same of the real networks; of none where they are not there."""
    if not (ROOT / "architectures.py").is_file():
        return
    module = architectures()
    for name in REAL:
        _, side, (mean, std), _ = module.MODELS[name]
        report(examine(Row("trained", name, side), module.load(name), mean, std))


def table(findings: Iterable[Finding]) -> str:
    """The page."""
    head = "| family | architecture | input | target layer | grid | CAM = Grad-CAM | "
    head += "Grad-CAM | Opti-CAM | TIBAV and attention | LRP | guided |"
    lines = [head, "|" + "---|" * 11, *map(line, findings)]
    return PAGE.format(table="\n".join(lines), others=", ".join(f"`{name}`" for name in METHODS if name not in APART))


def line(finding: Finding) -> str:
    """A network's row of the table."""
    layer = finding.layer
    cells = (
        finding.row.family,
        f"`{finding.row.architecture}`",
        str(finding.row.side),
        f"`{layer.path}`",
        f"{layer.channels} x {layer.height} x {layer.width}",
        _yes("cam" in finding.methods),
        *(_explained(finding, name) for name in ("grad_cam", "opti_cam", "tibav")),
        _yes("lrp" in finding.methods),
        _yes(set(RECTIFIERS) <= set(finding.methods)),
    )
    return "| " + " | ".join(cells) + " |"


def _yes(found: bool) -> str:
    return "yes" if found else "-"


def _explained(finding: Finding, name: str) -> str:
    if name not in finding.explained:
        return "-"
    return "yes" if finding.explained[name] else "constant map"


PAGE = """# Checked architectures

<!-- Written by `python -m benchmarks.architectures --output docs/architectures.md`. -->

Each network was built, its target layer found, and one image explained. Those of torchvision and timm have random
weights, {{classes}} classes, and small images where they take them, so that grids are smaller than in use. The trained
ones are those of the tests. Others of the same families are likely to work: `whylight model add` checks yours.

{table}

- **CAM = Grad-CAM**: the network ends in global average pooling and one linear layer, found by comparing logits; CAM
  works too.
- **Grad-CAM, Opti-CAM, TIBAV**: noise was explained. `constant map`: it worked and found nothing, which random weights
  may cause.
- **TIBAV and attention**: also attention rollout, attention flow and raw attention, on plain vision transformers that
  classify by one class token. The two heads of a distilled DeiT are averaged by the network itself, so the CAM family
  explains what it answers; attention methods refuse it, because their papers follow one token.
- **LRP**: "-" where a part of the network has no rule. **guided**: guided backpropagation and guided Grad-CAM need a
  ReLU.
- The other methods work on every network of the table: {others}.
""".replace("{{classes}}", str(CLASSES))


def main(arguments: list[str] | None = None) -> int:
    """Check all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="default: only print")
    options = parser.parse_args(arguments)
    findings: list[Finding] = []

    def report(finding: Finding) -> None:
        findings.append(finding)
        missing = sorted(METHODS.keys() - set(finding.methods))
        print(finding.row.architecture, finding.layer.path, finding.explained, "not:", *missing, flush=True)

    real_findings(report)
    for row in ROWS:
        report(examine(row, build(row)))
    if missed := {name for each in findings for name in EVERYWHERE - set(each.methods)}:
        print("not on every network:", *sorted(missed))
        return 1
    page = table([each for each in findings if each.row.family != "trained"] + findings[: -len(ROWS)])
    if options.output is not None:
        options.output.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
