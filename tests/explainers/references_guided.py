"""Guided backpropagation and guided Grad-CAM again, straight from their definitions: one image, one class, float64.

Nothing is shared with `explainers`. A network is a list of steps, and relevance goes back through it step by step: each
step makes its own small graph of one layer, and ReLUs make none.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tests.explainers.networks import MEAN, STD, ResidualCnn
from tests.explainers.references import Map, ToGrid, activation_and_gradient, channels_first, normalised

Backward = Callable[[Tensor], Tensor]


@dataclass
class Relu:
    """The guided step: 1[0<z<bound] 1[R>0] R."""

    bound: float = float("inf")

    def run(self, z: Tensor) -> tuple[Tensor, Backward]:
        return z.clamp(0, self.bound), lambda r: torch.where((z > 0) & (z < self.bound) & (r > 0), r, 0)


@dataclass
class Layer:
    """Any other module: its ordinary gradient."""

    module: nn.Module

    def run(self, z: Tensor) -> tuple[Tensor, Backward]:
        z = z.detach().requires_grad_()
        output = self.module(z)
        return output.detach(), lambda relevance: torch.autograd.grad(output, z, relevance)[0]


@dataclass
class Sum:
    """f(z) + z."""

    steps: "list[Step]"

    def run(self, z: Tensor) -> tuple[Tensor, Backward]:
        output, back = run(self.steps, z)
        return output + z, lambda relevance: back(relevance) + relevance


Step = Relu | Layer | Sum


def run(steps: list[Step], z: Tensor) -> tuple[Tensor, Backward]:
    """The output of all steps, and the way back."""
    backs = []
    for step in steps:
        z, back = step.run(z)
        backs.append(back)

    def all_back(relevance: Tensor) -> Tensor:
        for back in reversed(backs):
            relevance = back(relevance)
        return relevance

    return z, all_back


def steps_of(model: nn.Module) -> list[Step]:
    """The steps of one of the small networks."""
    if isinstance(model, ResidualCnn):
        blocks = [[Sum([Layer(block.conv), Layer(block.norm)]), Relu()] for block in model.stage]
        tail = [Layer(model.pool), Layer(nn.Flatten()), Layer(model.head)]
        return [Layer(model.stem), Relu(), *(step for block in blocks for step in block), *tail]
    if isinstance(model, nn.Sequential):
        return [step for child in model for step in steps_of(child)]
    if isinstance(model, nn.ReLU6):
        return [Relu(6)]
    return [Relu() if isinstance(model, nn.ReLU) else Layer(model)]


def guided_gradient(steps: list[Step], image: Tensor, target: int) -> Map:
    """R with respect to pixels of shape (3, H, W)."""
    logits, back = run(steps, normalised(image, MEAN, STD))
    seed = torch.zeros_like(logits)
    seed[0, target] = 1
    relevance = back(seed)[0]
    return np.stack([relevance[c].numpy() / STD[c] for c in range(3)])


def _double_steps(model: nn.Module) -> list[Step]:
    return steps_of(copy.deepcopy(model).double().eval())


def guided_backprop(
    model: nn.Module, image: Tensor, _layer: str, target: int, _to_grid: ToGrid = channels_first
) -> Map:
    """max over colour of abs(R)."""
    return np.abs(guided_gradient(_double_steps(model), image, target)).max(axis=0)


def guided_grad_cam(model: nn.Module, image: Tensor, layer: str, target: int, to_grid: ToGrid = channels_first) -> Map:
    """max over colour of abs(R times the enlarged map of Grad-CAM)."""
    activation, gradient = activation_and_gradient(model, normalised(image, MEAN, STD), layer, target, to_grid)
    cam = sum(gradient[k].mean() * activation[k] for k in range(len(activation)))
    enlarged = enlarge(np.maximum(cam, 0), image.shape[1], image.shape[2])
    return np.abs(guided_gradient(_double_steps(model), image, target) * enlarged).max(axis=0)


def enlarge(grid: Map, height: int, width: int) -> Map:
    """Bilinear, cell centres where they belong, pixel by pixel."""
    result = np.zeros((height, width))
    rows, columns = grid.shape
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
            for row in range(rows):
                for column in range(columns):
                    weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                    result[i, j] += weight * grid[row, column]
    return result
