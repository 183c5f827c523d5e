"""Opti-CAM again, straight from its definition: one image, one class, float64, an ordinary optimiser, every pass whole.

It shares nothing with `explainers`.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tests.explainers.references import Map, ToGrid, activation_and_gradient, channels_first, normalised


@dataclass(frozen=True)
class Optimum:
    """What a climb found.

    Attributes:
        raw: S(u*), shape (h, w).
        logit: of the class under the mask n(up(S(u*))).
        logits: the class's at every step, the start first.
    """

    raw: Map
    logit: float
    logits: list[float]


def opti_cam(
    model: nn.Module,
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    layer: str,
    target: int,
    to_grid: ToGrid = channels_first,
    *,
    steps: int = 100,
    learning_rate: float = 0.1,
) -> Optimum:
    """S(u) = sum_k softmax(u)_k A_k at that u of Adam's way under whose mask the logit of the class is highest.

    A is ReLU-ed where it comes from convolutions (where `to_grid` is `channels_first`).
    """
    activation, _ = activation_and_gradient(model, normalised(image, mean, std), layer, target, to_grid)
    if to_grid is channels_first:
        activation = np.maximum(activation, 0)
    feature_maps = torch.from_numpy(activation.copy())
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    mixture = torch.zeros(len(feature_maps), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([mixture], lr=learning_rate, maximize=True)
    best, logits = mixture.detach().clone(), []
    for _ in range(steps + 1):
        logit = model(normalised_under(mask_of(mixture, feature_maps, image), image, mean, std))[0, target]
        if not logits or logit.item() > max(logits):
            best = mixture.detach().clone()
        logits.append(logit.item())
        optimiser.zero_grad()
        logit.backward()
        optimiser.step()
    return Optimum(mixture_of(best, feature_maps).numpy(), max(logits), logits)


def mixture_of(mixture: Tensor, feature_maps: Tensor) -> Tensor:
    """sum_k softmax(u)_k A_k."""
    shares = mixture.exp() / mixture.exp().sum()
    return (shares[:, None, None] * feature_maps).sum(dim=0)


def mask_of(mixture: Tensor, feature_maps: Tensor, image: Tensor) -> Tensor:
    """n(up(S(u))), shape (H, W); zero where S is constant."""
    raw = mixture_of(mixture, feature_maps)
    size = tuple(image.shape[1:])
    enlarged = torch.nn.functional.interpolate(raw[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    low, high = enlarged.min(), enlarged.max()
    return 0 * enlarged if high == low else (enlarged - low) / (high - low)


def normalised_under(mask: Tensor, image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """N(x * mask): black, not the mean colour, where the mask is zero."""
    channels = [(image[c].double() * mask - mean[c]) / std[c] for c in range(3)]
    return torch.stack(channels)[None]
