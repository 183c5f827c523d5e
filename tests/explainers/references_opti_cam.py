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
    feature_maps = feature_maps_of(model, image, mean, std, layer, target, to_grid)
    model = in_double(model)
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


def fast(
    model: nn.Module,
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    layer: str,
    target: int,
    to_grid: ToGrid = channels_first,
    *,
    steps: int = 48,
    learning_rate: float = 0.2,
) -> Optimum:
    """The same mixtures, climbed by the mask on the layer's grid: each step wants a mask, and u is fitted to it."""
    feature_maps = feature_maps_of(model, image, mean, std, layer, target, to_grid)
    model = in_double(model)
    mixture = torch.zeros(len(feature_maps), dtype=torch.float64)
    running = torch.zeros(feature_maps.shape[1:], dtype=torch.float64)
    best, logits = mixture, []
    for done in range(steps + 1):
        raw = mixture_of(mixture, feature_maps).requires_grad_()
        logit = model(normalised_under(enlarged_mask(raw, image), image, mean, std))[0, target]
        if not logits or logit.item() > max(logits):
            best = mixture
        logits.append(logit.item())
        if done == steps:
            break
        logit.backward()
        assert raw.grad is not None
        running = 0.5 * running + 0.5 * raw.grad / raw.grad.abs().mean()
        rate = learning_rate * (steps - done) / steps
        wanted = stretched(raw.detach()) + rate * torch.sign(running) * running.abs() ** 0.5
        mixture = fitted(mixture, feature_maps, wanted.clip(0, 1))
    return Optimum(mixture_of(best, feature_maps).numpy(), max(logits), logits)


def fitted(mixture: Tensor, feature_maps: Tensor, wanted: Tensor) -> Tensor:
    """u after 25 steps of Adam down the squared distance of its mask from another, at rates from 0.15 to nothing."""
    mixture = mixture.clone().requires_grad_()
    optimiser = torch.optim.Adam([mixture], betas=(0.8, 0.95))
    for step in range(25):
        optimiser.param_groups[0]["lr"] = 0.15 * (25 - step) / 25
        optimiser.zero_grad()
        torch.square(stretched(mixture_of(mixture, feature_maps)) - wanted).sum().backward()
        optimiser.step()
    return mixture.detach()


def feature_maps_of(
    model: nn.Module,
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    layer: str,
    target: int,
    to_grid: ToGrid,
) -> Tensor:
    """A, shape (channels, h, w), float64."""
    activation, _ = activation_and_gradient(model, normalised(image, mean, std), layer, target, to_grid)
    if to_grid is channels_first:
        activation = np.maximum(activation, 0)
    return torch.from_numpy(activation.copy())


def in_double(model: nn.Module) -> nn.Module:
    """A copy in float64 whose layers leave their inputs alone."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


def mixture_of(mixture: Tensor, feature_maps: Tensor) -> Tensor:
    """sum_k softmax(u)_k A_k."""
    shares = mixture.exp() / mixture.exp().sum()
    return (shares[:, None, None] * feature_maps).sum(dim=0)


def mask_of(mixture: Tensor, feature_maps: Tensor, image: Tensor) -> Tensor:
    """n(up(S(u))), shape (H, W); zero where S is constant."""
    return enlarged_mask(mixture_of(mixture, feature_maps), image)


def enlarged_mask(raw: Tensor, image: Tensor) -> Tensor:
    """n(up(S)), shape (H, W)."""
    size = tuple(image.shape[1:])
    enlarged = torch.nn.functional.interpolate(raw[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    return stretched(enlarged)


def stretched(raw: Tensor) -> Tensor:
    """n(S): from 0 to 1; zero where S is constant."""
    low, high = raw.min(), raw.max()
    return 0 * raw if high == low else (raw - low) / (high - low)


def normalised_under(mask: Tensor, image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """N(x * mask): black, not the mean colour, where the mask is zero."""
    channels = [(image[c].double() * mask - mean[c]) / std[c] for c in range(3)]
    return torch.stack(channels)[None]
