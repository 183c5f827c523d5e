"""Forward passes over more images than go through a network at once."""

from collections.abc import Iterator

import torch
from torch import Tensor

from explainers import Network

IMAGES_AT_ONCE = {"cpu": 16, "cuda": 128}


def at_once(network: Network) -> int:
    """How many images to give the network together."""
    return IMAGES_AT_ONCE.get(network.device.type, 16)


def predict(network: Network, images: Tensor) -> Iterator[Tensor]:
    """Logits of images part by part, float32 on the CPU, shape (part, classes)."""
    for part in torch.split(images, at_once(network)):
        yield network.predict(part).cpu()
