"""The CAM family again, straight from its definitions: one image, one class, float64, a loop over the channels.

Nothing is shared with `explainers`. Each takes a model, pixels of shape (3, H, W), a layer, a class and how the layer's
output is laid out, and gives the raw map.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.explainers.networks import MEAN, STD
from tests.explainers.references import Map, ToGrid, activation_and_gradient, channels_first, min_max, normalised


def _recorded(model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid) -> tuple[Map, Map]:
    return activation_and_gradient(model, normalised(image, MEAN, STD), layer, target, to_grid)


def _double(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).double().eval()


def _score(model: nn.Module, image: Tensor, target: int) -> float:
    with torch.no_grad():
        return float(model(normalised(image, MEAN, STD))[0, target])


def _combine(weights: list[float], activation: Map) -> Map:
    return np.maximum(sum(w * a for w, a in zip(weights, activation, strict=True)), 0)


def grad_cam_plus_plus(
    model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first
) -> Map:
    """w_k = sum_ij alpha ReLU(g), alpha = g^2 / (2 g^2 + (sum_ab A_ab) g^3), nothing where g is zero."""
    activation, gradient = _recorded(model, image, layer, target, to_grid)
    weights = []
    for a, g in zip(activation, gradient, strict=True):
        places = [value for value in g.flatten() if value != 0]
        weights.append(sum(v**2 / (2 * v**2 + a.sum() * v**3) * max(v, 0) for v in places))
    return _combine(weights, activation)


def smooth_grad_cam_plus_plus(
    model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first
) -> Map:
    """The same with g, g^2, g^3 and A in alpha averaged over eight noisy images, seed 0."""
    noise = torch.randn(8, *image.shape, generator=torch.Generator().manual_seed(0))
    deviation = 0.3 * (image.max() - image.min())
    noisy = [_recorded(model, image + deviation * sample, layer, target, to_grid) for sample in noise]
    activation, _ = _recorded(model, image, layer, target, to_grid)
    weights = []
    for k in range(len(activation)):
        total = np.mean([a[k].sum() for a, _ in noisy])
        first, second, third = (np.mean([g[k] ** power for _, g in noisy], axis=0).flatten() for power in (1, 2, 3))
        weights.append(
            sum(
                two / (2 * two + total * three) * max(one, 0)
                for one, two, three in zip(first, second, third, strict=True)
                if two != 0
            )
        )
    return _combine(weights, activation)


def xgrad_cam(model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first) -> Map:
    """w_k = sum_ij (A_ij / sum_ab A_ab) g_ij."""
    activation, gradient = _recorded(model, image, layer, target, to_grid)
    weights = [
        (a / a.sum() * g).sum() if a.sum() != 0 else 0.0 for a, g in zip(activation, gradient, strict=True)
    ]
    return _combine(weights, activation)


def layer_cam(model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first) -> Map:
    """ReLU(sum_k ReLU(g) * A), cell by cell."""
    activation, gradient = _recorded(model, image, layer, target, to_grid)
    total = np.zeros(activation.shape[1:])
    for a, g in zip(activation, gradient, strict=True):
        for cell in np.ndindex(*total.shape):
            total[cell] += max(g[cell], 0) * a[cell]
    return np.maximum(total, 0)


def _channel_score_map(
    model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid, noise: Tensor, baseline: float
) -> Map:
    """Masks are the enlarged feature maps, each from 0 to 1, plus noise; weights the softmax of the mean scores."""
    activation, _ = _recorded(model, image, layer, target, to_grid)
    model = _double(model)
    scores = []
    for a in activation:
        grid = torch.from_numpy(a)[None, None]
        enlarged = nn.functional.interpolate(grid, size=image.shape[1:], mode="bilinear", align_corners=False)
        mask = torch.from_numpy(min_max(enlarged[0, 0].numpy()))
        seen = [_score(model, image.double() * (mask + sample), target) for sample in noise]
        scores.append(np.mean(seen) - baseline)
    exponentials = np.exp(scores)
    return _combine(list(exponentials / exponentials.sum()), activation)


def score_cam(model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first) -> Map:
    """w = softmax_k(f(N(x * n(up(A_k))))_c - f(N(0))_c)."""
    baseline = _score(_double(model), torch.zeros_like(image), target)
    return _channel_score_map(model, image, layer, target, to_grid, torch.zeros(1, *image.shape[1:]), baseline)


def ss_cam(model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first) -> Map:
    """The same averaged over ten masks with noise of deviation 2, seed 0."""
    noise = 2.0 * torch.randn(10, *image.shape[1:], generator=torch.Generator().manual_seed(0))
    return _channel_score_map(model, image, layer, target, to_grid, noise, 0.0)


def ablation_cam(model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first) -> Map:
    """w_k = (y - y_k) / y, every cell of feature map k set to zero by a hook."""
    activation, _ = _recorded(model, image, layer, target, to_grid)
    full = _score(_double(model), image, target)
    weights = []
    for k in range(len(activation)):
        ablated = _double(model)

        def ablate(_module: nn.Module, _inputs: Any, output: Tensor, k: int = k) -> Tensor:
            output = output.clone()
            if output.dim() == 3:  # tokens: those of the image are the last
                output[0, -activation[0].size :, k] = 0
            else:
                output[0, k] = 0
            return output

        ablated.get_submodule(layer).register_forward_hook(ablate)
        weights.append((full - _score(ablated, image, target)) / full)
    return _combine(weights, activation)


def fake_cam(_model: nn.Module, image: Tensor, _layer: str, _target: int, _to_grid: ToGrid = channels_first) -> Map:
    """One, and zero at the top left."""
    fake = np.ones(image.shape[1:])
    fake[0, 0] = 0
    return fake
