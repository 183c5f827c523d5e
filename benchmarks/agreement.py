"""How maps agree: with the slow references, and with those of other libraries."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from tqdm import tqdm

from explainers import Classes, normalise, upsample
from quality.ranks import rank_correlation
from tests.explainers import references
from tests.explainers.cases import CASES, double_network_of, make, network_of
from tests.explainers.networks import pictures

CLASSES = range(5)


@dataclass(frozen=True)
class Agreement:
    """Two maps of one image, both stretched to [0, 1] on the finer of their grids.

    Attributes:
        error: largest difference.
        correlation: Spearman's.
    """

    error: float
    correlation: float


def compare_maps(first: Tensor, second: Tensor) -> Agreement:
    """Compare maps of shape (h, w), of any size each."""
    size = max(tuple(first.shape), tuple(second.shape))
    one, other = (_stretched(each, (size[0], size[1])) for each in (first, second))
    correlation = rank_correlation(one.flatten()[None], other.flatten()[None])
    return Agreement((one - other).abs().max().item(), correlation.item())


def _stretched(saliency: Tensor, size: tuple[int, int]) -> Tensor:
    return normalise(upsample(saliency.detach().float(), size)[None]).maps[0]


def reference_errors() -> dict[str, float]:
    """For each method the largest difference from its slow reference on every test network, image and class."""
    errors = {}
    for name, case in tqdm(CASES.items(), desc="definitions", unit="method"):
        found = []
        for subject in case.subjects:
            network = double_network_of(subject) if case.in_double else network_of(subject)
            images = pictures(2)
            results = make(name).explain(network, images, [Classes(tuple(CLASSES))] * len(images))
            for image, result in zip(images, results, strict=True):
                for item in result.explanations:
                    expected = references.min_max(case.reference(subject, image, item.target))
                    found.append(float(np.abs(item.map.numpy() - expected).max()))
        errors[name] = max(found)
    return errors
