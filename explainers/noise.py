"""Noisy versions of images, the same for an image whatever else is in its batch."""

from collections.abc import Iterator

import torch
from torch import Tensor


def noisy_versions(images: Tensor, samples: int, level: float, seed: int) -> Iterator[Tensor]:
    """Add Gaussian noise, with a standard deviation of `level` times the range of each image's own pixels.

    Every image gets the same noise. It is drawn on the CPU, so that it is the same on every device, and the pixels are
    not cut off at 0 and 1.

    Args:
        images: shape (batch, 3, height, width).
        samples: how many versions to make.
        level: of the noise.
        seed: of the noise.

    Yields:
        `samples` tensors like `images`.
    """
    minimum, maximum = images.flatten(1).aminmax(dim=1)
    deviation = (level * (maximum - minimum))[:, None, None, None]
    for noise in gaussian((samples, *images.shape[1:]), seed):
        yield images + deviation * noise.to(images)


def gaussian(shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers from the standard normal distribution, float32, on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
