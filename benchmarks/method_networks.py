"""The networks on which every method is measured, each with one image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.grad_cam_cost import MEAN, SIDE, STD, build
from benchmarks.grad_cam_cost import NETWORKS as RANDOM
from benchmarks.peer import Setting
from explainers import Network
from tests.real_networks import architectures, prepared

PLAIN = ("vgg16_bn",)  # modules in a row: what zennit can follow without help
# Where the classifier is that follows global average pooling.
LINEAR = {"resnet50": "fc", "mobilenet_v2_1.0_224": "classifier", "cifar10_resnet20": "linear"}
REAL = ("mobilenet_v2_1.0_224", "squeezenet1_1", "vit_tiny_patch16_224", "cifar10_resnet20")


@dataclass(frozen=True)
class Subject:
    """A network and one image.

    Attributes:
        name: of the network.
        network: ready for our methods.
        setting: the same for other libraries.
        real: trained weights and a photograph; else random weights and noise.
    """

    name: str
    network: Network
    setting: Setting
    real: bool


def vit_grid(tokens: Tensor) -> Tensor:
    """Lays out square patches behind one class token."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)


def _random(name: str) -> Subject:
    model = build(name, torch.device("cpu"))
    network = Network(model, input_size=(SIDE, SIDE), mean=MEAN, std=STD, target_layer=RANDOM[name])
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return _subject(name, model, network, image, (MEAN, STD), real=False)


def _real(name: str) -> Subject:
    model, network, photographs = prepared(name)
    mean, std = architectures().MODELS[name][2]
    return _subject(name, model, network, photographs[:1], (mean, std), real=True)


def _subject(
    name: str,
    model: nn.Module,
    network: Network,
    image: Tensor,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    real: bool,
) -> Subject:
    layer = network.target_layer
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in statistics)
    setting = Setting(
        model=model,
        pixels=image,
        mean=mean,
        std=std,
        layer=layer.path,
        channels=layer.channels,
        target=int(network.predict(image)[0].argmax()),
        to_grid=vit_grid if "vit" in name else None,
        linear=LINEAR.get(name),
        plain=name in PLAIN,
    )
    return Subject(name, network, setting, real)


NETWORKS: Mapping[str, Callable[[], Subject]] = {name: partial(_random, name) for name in RANDOM} | {
    name: partial(_real, name) for name in REAL
}
