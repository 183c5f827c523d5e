"""The methods of random perturbations again, straight from their definitions: one image, one class, float64.

Nothing is shared with `explainers` but the superpixels, which are scikit-image's. Random numbers are drawn again by the
recipes that the methods' docstrings give. Each takes a model, pixels of shape (3, H, W), a layer that it has no use
for, and a class, and gives the raw map, for the parameters in `tests.explainers.cases`.
"""

import copy
import itertools
import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import slic
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from tests.explainers.networks import MEAN, STD
from tests.explainers.references import Map, ToGrid, channels_first

Coalition = tuple[bool, ...]
"""Which superpixels can be seen."""

Game = Callable[[Coalition], float]
"""The probability of a class when some superpixels can be seen."""


def probabilities(model: nn.Module, images: Tensor) -> Map:
    """Of every class for pixels of shape (n, 3, H, W)."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        logits = copy.deepcopy(model).double().eval()((images.double() - mean) / std)
    return logits.softmax(dim=1).numpy()


def rise_masks(count: int, cells: int, keep: float, seed: int, height: int, width: int) -> list[Map]:
    """Patterns of 0 and 1, enlarged, and cut out at random places."""
    generator = torch.Generator().manual_seed(seed)
    patterns = (torch.rand(count, cells, cells, generator=generator) < keep).double()
    cell_height, cell_width = math.ceil(height / cells), math.ceil(width / cells)
    tops = torch.randint(cell_height, (count,), generator=generator).tolist()
    lefts = torch.randint(cell_width, (count,), generator=generator).tolist()
    masks = []
    for pattern, top, left in zip(patterns, tops, lefts, strict=True):
        size = ((cells + 1) * cell_height, (cells + 1) * cell_width)
        large = nn.functional.interpolate(pattern[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        masks.append(large[top : top + height, left : left + width].numpy())
    return masks


def rise(model: nn.Module, image: Tensor, _layer: str, target: int, _to_grid: ToGrid = channels_first) -> Map:
    """64 masks of 7 x 7 cells: the mean of mask times probability, divided by 1/2."""
    masks = rise_masks(64, 7, 0.5, 0, *image.shape[1:])
    seen = torch.stack([image.double() * torch.from_numpy(mask) for mask in masks])
    total = np.zeros(image.shape[1:])
    for mask, probability in zip(masks, probabilities(model, seen)[:, target], strict=True):
        total += probability * mask
    return np.asarray(total / (0.5 * len(masks)))


def superpixels(image: Tensor, wanted: int) -> list[NDArray[np.bool_]]:
    """Which pixels each superpixel has."""
    pixels = image.double().permute(1, 2, 0).numpy()
    labels = slic(pixels, n_segments=wanted, compactness=20, sigma=1, start_label=0)
    return [labels == label for label in np.unique(labels)]


def with_hidden(image: Tensor, pieces: list[NDArray[np.bool_]], seen: Coalition) -> Tensor:
    """The image with the mean colour of each superpixel that is not seen."""
    picture = image.double().clone()
    for piece, visible in zip(pieces, seen, strict=True):
        if not visible:
            for colour in range(3):
                picture[colour][torch.from_numpy(piece)] = image[colour].double()[torch.from_numpy(piece)].mean()
    return picture


@cache
def _table(model: nn.Module, image: Tensor, coalitions: tuple[Coalition, ...]) -> Map:
    """The probabilities of all classes for each coalition; kept, because they are asked for class by class."""
    pieces = superpixels(image, 12)
    return probabilities(model, torch.stack([with_hidden(image, pieces, coalition) for coalition in coalitions]))


def scores_of(model: nn.Module, image: Tensor, coalitions: list[Coalition], target: int) -> list[float]:
    """The probability of the class for each coalition of about 12 superpixels."""
    return _table(model, image, tuple(coalitions))[:, target].tolist()


def painted(pieces: list[NDArray[np.bool_]], values: list[float]) -> Map:
    """Each superpixel in its value."""
    total = np.zeros(pieces[0].shape)
    for piece, value in zip(pieces, values, strict=True):
        total[piece] = value
    return total


def lime(model: nn.Module, image: Tensor, _layer: str, target: int, _to_grid: ToGrid = channels_first) -> Map:
    """The whole image and 63 random coalitions of about 12 superpixels, in scikit-learn's weighted ridge regression."""
    pieces = superpixels(image, 12)
    generator = torch.Generator().manual_seed(0)
    random = (torch.rand(63, len(pieces), generator=generator) < 0.5).tolist()
    coalitions = [(True,) * len(pieces), *map(tuple, random)]
    weights = []
    for coalition in coalitions:
        cosine = sum(coalition) / math.sqrt(sum(coalition) * len(pieces)) if any(coalition) else 0
        weights.append(math.sqrt(math.exp(-((1 - cosine) ** 2) / 0.25**2)))
    scores = scores_of(model, image, coalitions, target)
    ridge = Ridge(alpha=1.0).fit(np.array(coalitions, dtype=float), scores, sample_weight=weights)
    return painted(pieces, ridge.coef_.tolist())


def kernel_shap_coalitions(players: int, samples: int, seed: int) -> tuple[list[Coalition], list[float]]:
    """What there is between nobody and everybody, and its weights."""
    generator = torch.Generator().manual_seed(seed)
    if 2**players - 2 <= samples:
        between = [c for c in itertools.product((False, True), repeat=players) if 0 < sum(c) < players]
        return between, [(players - 1) / (math.comb(players, sum(c)) * sum(c) * (players - sum(c))) for c in between]
    chances = torch.tensor([1 / (s * (players - s)) for s in range(1, players)], dtype=torch.float64)
    pairs = math.ceil(samples / 2)
    sizes = (1 + torch.multinomial(chances, pairs, replacement=True, generator=generator)).tolist()
    numbers = torch.rand(pairs, players, generator=generator).tolist()
    drawn: list[Coalition] = []
    for size, row in zip(sizes, numbers, strict=True):
        members = sorted(range(players), key=row.__getitem__)[:size]
        coalition = tuple(player in members for player in range(players))
        drawn += [coalition, tuple(not member for member in coalition)]
    return drawn[:samples], [1.0] * samples


def constrained_regression(
    coalitions: list[Coalition], weights: list[float], scores: list[float], none: float, everything: float
) -> list[float]:
    """The last value is what is left for it; least squares for the others."""
    rows, right = [], []
    for coalition, weight, score in zip(coalitions, weights, scores, strict=True):
        last = float(coalition[-1])
        rows.append([math.sqrt(weight) * (member - last) for member in coalition[:-1]])
        right.append(math.sqrt(weight) * (score - none - last * (everything - none)))
    values = np.linalg.lstsq(np.array(rows), np.array(right))[0].tolist()
    return [*values, everything - none - sum(values)]


def kernel_shap(model: nn.Module, image: Tensor, _layer: str, target: int, _to_grid: ToGrid = channels_first) -> Map:
    """64 coalitions of about 12 superpixels; the last value is eliminated by the constraint."""
    pieces = superpixels(image, 12)
    nobody, everybody = (False,) * len(pieces), (True,) * len(pieces)
    coalitions, weights = kernel_shap_coalitions(len(pieces), 64, 0)
    none, everything, *between = scores_of(model, image, [nobody, everybody, *coalitions], target)
    return painted(pieces, constrained_regression(coalitions, weights, between, none, everything))


def shapley_values(players: int, game: Game) -> list[float]:
    """The mean over all orders of what a player adds: by the sum over all coalitions without the player."""
    worth = {c: game(c) for c in itertools.product((False, True), repeat=players)}
    values = []
    for player in range(players):
        value = 0.0
        for coalition in worth:
            if not coalition[player]:
                joined = (*coalition[:player], True, *coalition[player + 1 :])
                size = sum(coalition)
                chance = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
                value += chance * (worth[joined] - worth[coalition])
        values.append(value)
    return values
