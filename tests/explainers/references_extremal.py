"""Extremal perturbation again, straight from its definition: one image, one class, float64, every pass whole.

It shares nothing with `explainers`.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from tests.explainers.references import Map, normalised

START = 0.9


@dataclass(frozen=True)
class Optimum:
    """What an ascent ended at.

    Attributes:
        mask: in pixels, shape (height, width).
        logits: the class's at every step, the start first, without the end.
    """

    mask: Map
    logits: list[float]


def extremal_perturbation(
    model: nn.Module,
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    target: int,
    *,
    area: float = 0.1,
    steps: int = 800,
    perturbation: str = "blur",
    stop: int | None = None,
) -> Optimum:
    """Gradient ascent in f(N(m (x) x))_c - lambda mean((vecsort(m) - r_a)^2); `stop` steps of it, if given."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    size = (image.shape[1], image.shape[2])
    pitch = max(1, min(size) / 32)
    values = torch.full((round(size[0] / pitch), round(size[1] / pitch)), START, dtype=torch.float64)
    levels = pyramid(image.double(), perturbation)
    values.requires_grad_()
    optimiser = torch.optim.SGD([values], lr=0.01, momentum=0.9, maximize=True)
    logits = []
    for step in range(steps if stop is None else stop):
        mask = spread(values)
        seen = perturbed(levels, enlarged(mask, size))
        logit = model(normalised(seen, mean, std))[0, target]
        if step == 0 and not torch.autograd.grad(logit, mask, retain_graph=True)[0].any():
            return Optimum(np.zeros(size), [logit.item()])
        logits.append(logit.item())
        objective = logit - weight(step, steps) * area_excess(mask, area)
        optimiser.zero_grad()
        objective.backward()
        optimiser.step()
        with torch.no_grad():
            values.clamp_(0, 1)
    return Optimum(enlarged(spread(values), size).detach().numpy(), logits)


def spread(values: Tensor) -> Tensor:
    """The smooth maximum of k(u - v) c(v) over the 11 x 11 cells v around u; beyond the edges the last ones go on."""
    rows, columns = values.shape
    padded = torch.nn.functional.pad(values[None, None], (5, 5, 5, 5), mode="replicate")[0, 0]
    above = below = torch.zeros(rows, columns, dtype=values.dtype)
    for down in range(-5, 6):
        for right in range(-5, 6):
            distance = (down**2 + right**2) ** 0.5 / 3
            kernel = np.exp(-2 * max(0, distance - 0.5) ** 2)
            spot = kernel * padded[5 + down : 5 + down + rows, 5 + right : 5 + right + columns]
            above = above + spot * torch.exp(20 * spot)
            below = below + torch.exp(20 * spot)
    return above / below


def enlarged(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """To the pixels, bilinearly."""
    return torch.nn.functional.interpolate(mask[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def area_excess(mask: Tensor, area: float) -> Tensor:
    """mean((vecsort(m) - r_a)^2)."""
    ordered = mask.flatten().sort().values
    ones = min(max(round(area * len(ordered)), 1), len(ordered) - 1)
    wanted = torch.tensor([0.0] * (len(ordered) - ones) + [1.0] * ones, dtype=mask.dtype)
    return ((ordered - wanted) ** 2).mean()


def pyramid(image: Tensor, perturbation: str) -> list[Tensor]:
    """The image and what is in its place the further its mask is from 1."""
    if perturbation == "fade":
        return [image, torch.zeros_like(image)]
    _, height, width = image.shape
    strongest = min(height, width) * 20 / 224
    blurs = [gaussian(height, width, strongest * level / 7) for level in range(1, 8)]
    return [image, *((image.flatten(1) @ blur.T).view(image.shape) for blur in blurs)]


@cache
def gaussian(height: int, width: int, deviation: float) -> Tensor:
    """Weight of each pixel in each blurred pixel, shape (height * width, height * width)."""
    weights = torch.zeros(height * width, height * width, dtype=torch.float64)
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    for index, place in enumerate(places):
        weights[index] = torch.exp(-((places - place) ** 2).sum(dim=1) / (2 * deviation**2))
        weights[index] /= weights[index].sum()
    return weights


def perturbed(levels: list[Tensor], mask: Tensor) -> Tensor:
    """Between the two levels that are next to 1 - m, linearly."""
    depth = (1 - mask) * (len(levels) - 1)
    result = levels[-1]
    for level in reversed(range(len(levels) - 1)):
        between = levels[level] + (depth - level) * (levels[level + 1] - levels[level])
        result = torch.where(depth < level + 1, between, result)
    return result


def weight(step: int, steps: int) -> float:
    """lambda: nothing at the first step, then from 300 to 4800."""
    return 0 if step == 0 else 300 * 16 ** (step / steps)
