"""The methods again, straight from their definitions: one image, one class, float64, a loop for every sum.

They share nothing with `explainers`. Whatever may write a tensor in place is made to write into a copy.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Map = NDArray[np.float64]
ToGrid = Callable[[Tensor], Tensor]


def normalised(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(3, H, W) pixels to a batch of one for the model."""
    channels = [(image[c].double() - mean[c]) / std[c] for c in range(3)]
    return torch.stack(channels)[None]


def tokens_to_grid(height: int, width: int, prefix: int) -> ToGrid:
    """For transformers: (1, tokens, K) to (1, K, h, w), cell by cell."""

    def to_grid(tokens: Tensor) -> Tensor:
        grid = torch.zeros(1, tokens.shape[2], height, width, dtype=tokens.dtype)
        for row in range(height):
            for column in range(width):
                grid[0, :, row, column] = tokens[0, prefix + row * width + column]
        return grid

    return to_grid


def channels_first(tensor: Tensor) -> Tensor:
    """For convolutions: as it is."""
    return tensor


def activation_and_gradient(
    model: nn.Module, inputs: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first
) -> tuple[Map, Map]:
    """A_k and dy_c/dA_k of a layer's last call, each (K, h, w), by one ordinary backward pass through everything."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        output.retain_grad()
        kept.append(output)
        return output.clone()

    model.get_submodule(layer).register_forward_hook(keep)
    model(inputs.requires_grad_())[0, target].backward()
    gradient = kept[-1].grad
    assert gradient is not None
    return to_grid(kept[-1].detach())[0].numpy(), to_grid(gradient)[0].numpy()


def grad_cam(model: nn.Module, inputs: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first) -> Map:
    """ReLU(sum_k w_k A_k), w_k = mean_ij dy_c/dA_k."""
    activation, gradient = activation_and_gradient(model, inputs, layer, target, to_grid)
    channels, height, width = activation.shape
    total = np.zeros((height, width))
    for k in range(channels):
        weight = sum(gradient[k, i, j] for i in range(height) for j in range(width)) / (height * width)
        total += weight * activation[k]
    return np.maximum(total, 0)


def cam(
    model: nn.Module, inputs: Tensor, layer: str, classifier: str, target: int, to_grid: ToGrid = channels_first
) -> Map:
    """sum_k w_k^c A_k, w^c the classifier's row."""
    activation, _ = activation_and_gradient(model, inputs, layer, target, to_grid)
    row = model.get_submodule(classifier).weight.detach().double().numpy()[target]
    return np.asarray(sum(row[k] * activation[k] for k in range(len(row))))


def min_max(raw: Map) -> Map:
    """To [0, 1]; zeros where the map is constant."""
    low, high = raw.min(), raw.max()
    return np.zeros_like(raw) if high == low else (raw - low) / (high - low)
