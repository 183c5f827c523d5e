"""Grad-CAM, XGrad-CAM and CAM behind global average pooling, on real networks: what the evaluation tables show."""

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Explanation, Network, TopK
from tests.real_networks import architectures, prepared

pytestmark = pytest.mark.real


def explained(name: str, network: Network, images: Tensor) -> list[Explanation]:
    results = METHODS[name]().explain(network, images, [TopK(1)] * len(images))
    return [result.explanations[0] for result in results]


def difference(first: list[Tensor], second: list[Tensor]) -> float:
    return max((one - other).abs().max().item() for one, other in zip(first, second, strict=True))


def behind_a_relu(found: Explanation) -> Tensor:
    """The raw map without what speaks against the class, stretched to [0, 1]."""
    raw = (found.map * (found.raw_maximum - found.raw_minimum) + found.raw_minimum).relu()
    return (raw - raw.min()) / (raw.max() - raw.min())


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224", "cifar10_resnet20"])
def test_the_three_are_one_but_for_the_relu(name: str) -> None:
    """XGrad-CAM is Grad-CAM; CAM, which has no ReLU, is so once it gets one."""
    _, network, images = prepared(name)
    grad_cam, xgrad_cam, cam = (explained(each, network, images[:4]) for each in ("grad_cam", "xgrad_cam", "cam"))
    expected = [each.map for each in grad_cam]
    assert difference([each.map for each in xgrad_cam], expected) < 1e-5
    assert difference([behind_a_relu(each) for each in cam], expected) < 1e-5
    assert difference([each.map for each in cam], expected) > 0.01


@pytest.mark.parametrize("relu", [True, False])
def test_a_relu_before_the_pooling_tells_them_apart(relu: bool) -> None:
    """SqueezeNet has one there; without it Grad-CAM and XGrad-CAM are equal."""
    model = architectures().load("squeezenet1_1")
    if not relu:
        model.classifier[2] = nn.Identity()
    _, side, (mean, std), _ = architectures().MODELS["squeezenet1_1"]
    network = Network(model, input_size=(side, side), mean=mean, std=std)
    images = prepared("squeezenet1_1")[2][:8]
    maps = [torch.stack([each.map for each in explained(name, network, images)]) for name in ("grad_cam", "xgrad_cam")]
    assert ((maps[0] - maps[1]).abs().max() > 0.01) == relu
    assert relu or torch.allclose(maps[0], maps[1], atol=1e-5)
