"""Layer-wise relevance propagation again, straight from the definitions: one image, one class, float64.

Every layer is a dense matrix, found by handing the layer each unit vector; every neuron shares out its relevance in a
loop of its own. Nothing is shared with `explainers`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.explainers import references
from tests.explainers.networks import MEAN, STD, ResidualBlock, ResidualCnn

Array = NDArray[np.float64]


@dataclass(eq=False)
class Stage:
    """A piece of a network: what it computes of one image, and what it is.

    Attributes:
        kind: convolution, linear, average, maximum, relu, shape, or residual.
        function: what it computes; of a residual stage, the branch.
        branch: of a residual stage.
    """

    kind: str
    function: Callable[[Tensor], Tensor]
    branch: tuple["Stage", ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.function(x) if self.kind == "residual" else self.function(x)


@cache
def stages(model: nn.Module) -> tuple[Stage, ...]:
    """A model as stages; batch normalisation belongs to the layer in front of it."""
    found: list[Stage] = []
    for module in _leaves(_copy(model)):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            layer = found.pop()
            found.append(Stage(layer.kind, nn.Sequential(layer.function, module)))
        elif isinstance(module, ResidualBlock):
            layer = Stage("convolution", nn.Sequential(module.conv, module.norm))
            found += [Stage("residual", layer.function, (layer,)), Stage("relu", torch.relu)]
        else:
            found.append(Stage(KINDS[type(module)], module))
    return tuple(found)


KINDS = {
    nn.Conv2d: "convolution",
    nn.Linear: "linear",
    nn.AdaptiveAvgPool2d: "average",
    nn.AvgPool2d: "average",
    nn.MaxPool2d: "maximum",
    nn.ReLU: "relu",
    nn.ReLU6: "relu",
    nn.Flatten: "shape",
    nn.Dropout: "shape",
}


def _copy(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model).double().eval().requires_grad_(requires_grad=False)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


def _leaves(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, ResidualCnn):
        return [module.stem, nn.ReLU(), *module.stage, module.pool, nn.Flatten(), module.head]
    return [leaf for child in module for leaf in _leaves(child)] if isinstance(module, nn.Sequential) else [module]


def lrp(model: nn.Module, image: Tensor, target: int, rule: str = "deep_taylor", epsilon: float = 1e-6) -> Array:
    """Relevance of the pixels, summed over colour, (H, W)."""
    x = references.normalised(image, MEAN, STD)
    low, high = (references.normalised(torch.full_like(image, end), MEAN, STD).flatten().numpy() for end in (0, 1))
    values = [x]
    for stage in stages(model):
        values.append(stage.forward(values[-1]))
    relevance = np.zeros(values[-1].numel())
    relevance[target] = values[-1][0, target].item()
    untouched = True  # the pixels have only been moved so far
    first = {}
    for stage in stages(model):
        first[stage] = untouched and stage.kind in ("convolution", "linear")
        untouched = untouched and stage.kind == "shape"
    for stage, value in reversed(list(zip(stages(model), values, strict=False))):
        if first[stage] and rule in ("deep_taylor", "composite"):
            relevance = _box(stage, value, relevance, low, high)
        else:
            relevance = _back(stage, value, relevance, rule, epsilon)
    return relevance.reshape(image.shape).sum(axis=0)


def _back(stage: Stage, x: Tensor, relevance: Array, rule: str, epsilon: float) -> Array:
    if stage.kind in ("relu", "shape"):
        return relevance
    if stage.kind == "maximum":
        return _winners(stage, x, relevance)
    if stage.kind == "residual":
        return _residual(stage, x, relevance, rule, epsilon)
    if rule == "epsilon" or (rule == "composite" and stage.kind == "linear"):
        return _epsilon(stage, x, relevance, epsilon)
    if rule == "alpha2_beta1" and stage.kind != "average":
        return 2 * _in_proportion(stage, x, relevance, 1) - _in_proportion(stage, x, relevance, -1)
    if stage.kind == "average":
        return _average(stage, x, relevance)
    return _in_proportion(stage, x, relevance, 1)


def _average(stage: Stage, x: Tensor, relevance: Array) -> Array:
    """By the positive terms where the average is positive, by the negative ones where it is negative."""
    falls = stage.function(x).flatten().numpy() < 0
    down, up = np.where(falls, relevance, 0), np.where(falls, 0, relevance)
    return _in_proportion(stage, x, up, 1) + _in_proportion(stage, x, down, -1)


@cache
def _matrix(stage: Stage, shape: torch.Size) -> tuple[Array, Array]:
    """Weights (outputs, inputs) and biases (outputs,)."""
    size = shape.numel()
    bias = stage.function(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    columns = stage.function(torch.eye(size, dtype=torch.float64).view(size, *shape)).reshape(size, -1)
    return (columns - bias).T.numpy(), bias.numpy()


def _in_proportion(stage: Stage, x: Tensor, relevance: Array, sign: int) -> Array:
    """R_i = sum_j (z_ij)+ / sum_k (z_kj)+ R_j, or with the negative parts; nothing where the sum is 0."""
    weight, _ = _matrix(stage, x.shape[1:])
    inputs = x.flatten().numpy()
    result = np.zeros_like(inputs)
    for j in range(len(relevance)):
        contributions = np.maximum(sign * weight[j] * inputs, 0)
        if contributions.sum() > 0:
            result += contributions / contributions.sum() * relevance[j]
    return result


def _epsilon(stage: Stage, x: Tensor, relevance: Array, epsilon: float) -> Array:
    """R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j, with z_j the whole output and sign(0) = 1."""
    weight, bias = _matrix(stage, x.shape[1:])
    inputs = x.flatten().numpy()
    result = np.zeros_like(inputs)
    for j in range(len(relevance)):
        contributions = weight[j] * inputs
        total = contributions.sum() + bias[j]
        result += contributions / (total + (epsilon if total >= 0 else -epsilon)) * relevance[j]
    return result


def _box(stage: Stage, x: Tensor, relevance: Array, low: Array, high: Array) -> Array:
    """z_ij = x_i w_ij - low_i w_ij+ - high_i w_ij-."""
    weight, _ = _matrix(stage, x.shape[1:])
    inputs = x.flatten().numpy()
    result = np.zeros_like(inputs)
    for j in range(len(relevance)):
        contributions = inputs * weight[j] - low * np.maximum(weight[j], 0) - high * np.minimum(weight[j], 0)
        if contributions.sum() > 0:
            result += contributions / contributions.sum() * relevance[j]
    return result


def _residual(stage: Stage, x: Tensor, relevance: Array, rule: str, epsilon: float) -> Array:
    """A sum of two: under epsilon by the values, else by those of the sign of the sum; then back through the branch."""
    (layer,) = stage.branch
    own, branch = x.flatten().numpy(), stage.function(x).flatten().numpy()
    to_own, to_branch = np.zeros_like(own), np.zeros_like(own)
    for i, total in enumerate(own + branch):
        terms = np.array([own[i], branch[i]])
        if rule == "epsilon":
            shares = terms / (total + (epsilon if total >= 0 else -epsilon))
        else:
            terms = np.maximum(terms, 0) if total >= 0 else np.minimum(terms, 0)
            shares = terms / terms.sum() if terms.any() else terms
        to_own[i], to_branch[i] = shares * relevance[i]
    return to_own + _back(layer, x, to_branch, rule, epsilon)


def _winners(stage: Stage, x: Tensor, relevance: Array) -> Array:
    """Each window's relevance to its first largest value; windows of 2 x 2, 2 apart."""
    assert (stage.function.kernel_size, stage.function.stride, stage.function.padding) == (2, 2, 0)
    values = x[0].numpy()
    result = np.zeros_like(values)
    channels, height, width = stage.function(x)[0].shape
    grid = relevance.reshape(channels, height, width)
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                window = values[k, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                row, column = np.unravel_index(window.argmax(), window.shape)
                result[k, 2 * i + row, 2 * j + column] += grid[k, i, j]
    return result.flatten()
