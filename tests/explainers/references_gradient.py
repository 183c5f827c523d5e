"""The methods on pixels again, straight from their definitions: one image, one class, float64.

Nothing is shared with `explainers`. Each takes a model, pixels of shape (3, H, W), a layer that it has no use for, and
a class, and gives the raw map.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from tests.explainers.networks import MEAN, STD
from tests.explainers.references import Map, ToGrid, channels_first


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of pixels of shape (n, 3, H, W)."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (MEAN, STD))
    return copy.deepcopy(model).double().eval()((images - mean) / std)


def _gradients(model: nn.Module, images: Tensor, target: int) -> Map:
    """dy_c/dx of each image, (n, 3, H, W)."""
    pixels = images.detach().double().requires_grad_()
    _scores(model, pixels)[:, target].sum().backward()
    assert pixels.grad is not None
    return pixels.grad.numpy()


def gradient(
    model: nn.Module, image: Tensor, _layer: str, target: int, _to_grid: ToGrid = channels_first
) -> Map:
    """max over colour of abs(dy_c/dx)."""
    return np.abs(_gradients(model, image[None], target)[0]).max(axis=0)


def smooth_grad(
    model: nn.Module, image: Tensor, _layer: str, target: int, _to_grid: ToGrid = channels_first
) -> Map:
    """The same of the mean over 25 noisy images, seed 0."""
    noise = torch.randn(25, *image.shape, generator=torch.Generator().manual_seed(0))
    noisy = image + 0.15 * (image.max() - image.min()) * noise
    return np.abs(_gradients(model, noisy, target).mean(axis=0)).max(axis=0)


def integrated_gradients(
    model: nn.Module, image: Tensor, _layer: str, target: int, _to_grid: ToGrid = channels_first
) -> Map:
    """The pixel times its mean gradient at 32 points on the way from black, summed over colour."""
    points = torch.stack([(i + 0.5) / 32 * image.double() for i in range(32)])
    return np.asarray((image.double().numpy() * _gradients(model, points, target).mean(axis=0)).sum(axis=0))


def occlusion(
    model: nn.Module, image: Tensor, _layer: str, target: int, _to_grid: ToGrid = channels_first
) -> Map:
    """Squares of 5 pixels, 2 apart, on 32 x 32: the mean drop of the squares over each pixel."""
    places = [(top, left) for top in range(0, 28 + 1, 2) for left in range(0, 28 + 1, 2)]
    occluded = image.double().repeat(len(places), 1, 1, 1)
    for picture, (top, left) in zip(occluded, places, strict=True):
        picture[:, top : top + 5, left : left + 5] = 0.5
    with torch.no_grad():
        full = _scores(model, image[None].double()).softmax(dim=1)[0, target].item()
        left_over = _scores(model, occluded).softmax(dim=1)[:, target].tolist()
    total, count = np.zeros((32, 32)), np.zeros((32, 32))
    for (top, left), probability in zip(places, left_over, strict=True):
        total[top : top + 5, left : left + 5] += full - probability
        count[top : top + 5, left : left + 5] += 1
    return total / count
