"""Grad-CAM equals that of PyPI grad-cam, captum and torchcam where they are right."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, Network
from tests.explainers import references
from tests.oracles.comparison import assert_agrees
from tests.oracles.peers import PEERS, require_torchvision

pytestmark = pytest.mark.oracle

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = (3, 0, 9)


def pictures(count: int, side: int) -> Tensor:
    """Seeded smooth pictures: noise on a coarse grid, enlarged."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


def calibrated(model: nn.Module, side: int) -> nn.Module:
    """`model` with batch statistics of pictures, as training would leave them: random weights alone fade out."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(pictures(8, side))
    return model.eval()


@cache
def model_and_network(name: str) -> tuple[nn.Module, Network]:
    """A network with random weights and ten classes, made once."""
    require_torchvision()
    torch.manual_seed(0)
    side = 224 if "vit" in name else 96
    if name.startswith("timm "):
        timm = pytest.importorskip("timm", reason="timm is not installed")
        model = timm.create_model(name.removeprefix("timm "), num_classes=10).eval()
    else:
        torchvision = pytest.importorskip("torchvision")
        model = calibrated(torchvision.models.get_model(name, num_classes=10), side)
    if hasattr(model, "heads"):  # torchvision's ViT begins with a head of zeros
        nn.init.normal_(model.heads.head.weight, std=0.1)
    return model, Network(model, input_size=(side, side), mean=MEAN, std=STD)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet50", "layer4"),
        ("resnet50", "layer4.2"),
        ("resnet50", "layer3.5.conv3"),
        ("vgg16_bn", "features.42"),
        ("vgg16_bn", "features.43"),
        ("mobilenet_v2", "features.18"),
    ],
)
def test_convolutional(peer: str, name: str, layer: str) -> None:
    """On layers that nothing overwrites, every peer agrees."""
    model, network = model_and_network(name)
    assert_agrees(peer, model, network, pictures(3, 96), layer, CLASSES)


@pytest.mark.parametrize("peer", ["grad-cam", "torchcam"])
@pytest.mark.parametrize(
    ("name", "layer"),
    [("vit_b_32", "encoder.layers.encoder_layer_11.ln_1"), ("timm vit_tiny_patch16_224", "blocks.11.norm1")],
)
def test_transformers(peer: str, name: str, layer: str) -> None:
    """On the last block's norm, the peers agree when told how tokens lie; captum has no Grad-CAM of tokens."""
    model, network = model_and_network(name)
    assert network.target_layer.path == layer
    side = network.target_layer.height

    def to_grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)

    assert_agrees(peer, model, network, pictures(3, 224), layer, CLASSES, to_grid)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet50", "layer4.2.bn3"), ("vgg16_bn", "features.41")],
)
def test_layers_that_are_overwritten(name: str, layer: str) -> None:
    """Where the next operation writes in place, grad-cam and torchcam read what it wrote: the oracle is float64."""
    model, network = model_and_network(name)
    image = pictures(1, 96)
    method = METHODS["grad_cam"](layer=layer)  # type: ignore[call-arg]
    item = method.explain(network, image, [Classes((3,))])[0].explanations[0]
    raw = references.grad_cam(model, references.normalised(image[0], MEAN, STD), layer, 3)
    np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


def test_cam_is_grad_cam_behind_global_average_pooling() -> None:
    """On ResNet-50, the positive part of CAM is Grad-CAM."""
    _, network = model_and_network("resnet50")
    arguments: tuple[Any, ...] = (network, pictures(3, 96), [Classes(CLASSES)] * 3)
    cams, grad_cams = (METHODS[name]().explain(*arguments) for name in ("cam", "grad_cam"))
    for cam, grad_cam in zip(cams, grad_cams, strict=True):
        for a, b in zip(cam.explanations, grad_cam.explanations, strict=True):
            positive = (a.map * (a.raw_maximum - a.raw_minimum) + a.raw_minimum).relu()
            np.testing.assert_allclose(b.map, references.min_max(positive.double().numpy()), atol=1e-5)
