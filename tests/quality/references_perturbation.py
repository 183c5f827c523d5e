"""Insertion, deletion and perturbation straight from their definitions: one image, one step, one pixel at a time."""

import math

import numpy as np
import torch
from torch import Tensor, nn


def order(saliency: np.ndarray, descending: bool = True) -> list[tuple[int, int]]:
    """Pixels by their value, equal ones row by row."""
    height, width = saliency.shape
    places = [(i, j) for i in range(height) for j in range(width)]
    sign = -1 if descending else 1
    return sorted(places, key=lambda place: sign * float(saliency[place]))


def blur(normalised: np.ndarray) -> np.ndarray:
    """An image of shape (3, height, width) behind an 11 x 11 Gaussian with sigma 5, zeros around it."""
    _, height, width = normalised.shape
    weights = {(a, b): math.exp(-(a * a + b * b) / 50) for a in range(-5, 6) for b in range(-5, 6)}
    total = sum(weights.values())
    result = np.zeros_like(normalised)
    for i in range(height):
        for j in range(width):
            for (a, b), weight in weights.items():
                if 0 <= i + a < height and 0 <= j + b < width:
                    result[:, i, j] += weight / total * normalised[:, i + a, j + b]
    return result


def curve(
    model: nn.Module, start: np.ndarray, end: np.ndarray, saliency: np.ndarray, target: int, steps: int
) -> list[float]:
    """p_c while normalised pixels of `start` are replaced by those of `end`, the most salient first."""
    places = order(saliency)
    picture = start.copy()
    probabilities, done = [_probability(model, picture, target)], 0
    for step in range(1, steps + 1):
        until = len(places) * step // steps
        for i, j in places[done:until]:
            picture[:, i, j] = end[:, i, j]
        done = until
        probabilities.append(_probability(model, picture, target))
    return probabilities


def area(probabilities: list[float], pixels: int) -> float:
    """Trapezoids over all steps with both ends."""
    steps = len(probabilities) - 1
    places = [pixels * step // steps / pixels for step in range(steps + 1)]
    return sum(
        (places[k + 1] - places[k]) * (probabilities[k] + probabilities[k + 1]) / 2 for k in range(len(places) - 1)
    )


def predictions(
    model: nn.Module, image: Tensor, mean: np.ndarray, std: np.ndarray, saliency: np.ndarray, most_salient_first: bool
) -> list[int]:
    """The predicted class with 0, 10, ..., 90 % of the pixels black."""
    places = order(saliency, most_salient_first)
    found = []
    for tenth in range(10):
        pixels = image.double().numpy().copy()
        for i, j in places[: len(places) * tenth // 10]:
            pixels[:, i, j] = 0
        found.append(int(_logits(model, (pixels - mean) / std).argmax()))
    return found


def _probability(model: nn.Module, normalised: np.ndarray, target: int) -> float:
    return float(_logits(model, normalised).softmax(dim=0)[target])


def _logits(model: nn.Module, normalised: np.ndarray) -> Tensor:
    with torch.no_grad():
        return model(torch.from_numpy(normalised)[None])[0]
