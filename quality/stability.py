"""Max-sensitivity and infidelity: what a map is worth when the image changes a little."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explainers import parameter
from explainers.noise import gaussian
from quality.evidence import Evidence, Need
from quality.metric import Direction, Metric, Unit
from quality.passes import predict
from quality.registry import register


@register
@dataclass(frozen=True)
class MaxSensitivity(Metric):
    """How far the map moves when the image gets a little noise: the largest of several tries.

    The noise is uniform, the same for every image, and pixels aren't cut off at 0 and 1. A map that becomes degenerate
    counts as zero. Costs as many explanations as samples.
    """

    name: ClassVar[str] = "max_sensitivity"
    title: ClassVar[str] = "Max-sensitivity"
    formula: ClassVar[str] = (
        "max over samples of |n(S(x + e)) - n(S(x))| / |n(S(x))|; e uniform in [-radius, radius] for each value of a "
        "pixel in [0, 1], | |: Euclidean norm on the map's grid"
    )
    reference: ClassVar[str] = "Yeh et al. 2019"
    direction: ClassVar[Direction] = "lower"
    unit: ClassVar[Unit] = Unit.NUMBER
    range: ClassVar[tuple[float, float]] = (0, math.inf)
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK, Need.EXPLAIN})

    radius: float = parameter(0.02, "Largest change of a pixel's value in [0, 1].", minimum=1e-4, maximum=1)
    samples: int = parameter(10, "Number of noisy images.", minimum=1, maximum=1000)
    seed: int = parameter(0, "Of the noise.", minimum=0, maximum=2**31 - 1)

    def _values(self, evidence: Evidence) -> Tensor:
        network, explain = evidence.given(Need.NETWORK), evidence.given(Need.EXPLAIN)
        maps = evidence.native.maps.flatten(1).double()
        farthest = torch.zeros(len(maps), dtype=torch.float64)
        if not len(maps):
            return farthest
        for noise in self.noise(evidence.images):
            changed = explain(network, evidence.images + noise, evidence.classes).cpu().flatten(1).double()
            farthest = torch.maximum(farthest, (changed - maps).norm(dim=1))
        size = maps.norm(dim=1)
        relative: Tensor = farthest / size.where(size > 0, torch.nan)
        return relative

    def noise(self, images: Tensor) -> Iterator[Tensor]:
        """`samples` times noise for one image, shape (3, height, width)."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.samples):
            noise = 2 * torch.rand(images.shape[1:], generator=generator) - 1
            yield (self.radius * noise).to(images)


@register
@dataclass(frozen=True)
class Infidelity(Metric):
    """How badly the map predicts what a change of the image does to the class probability.

    A map in [0, 1] has no scale, so the best one for each image is taken, as the paper proposes, unless `rescale` is
    off. Every colour of a pixel has the pixel's value of the map. The changes are the same for every image. Costs one
    forward pass for each sample and image.
    """

    name: ClassVar[str] = "infidelity"
    title: ClassVar[str] = "Infidelity"
    formula: ClassVar[str] = (
        "mean_I (b <I, n(up(S))> - (p_c(x) - p_c(x - I)))^2; b = mean(<I, S> d) / mean(<I, S>^2) with d the difference "
        "of p, or 1; I: the pixels of a random square (square), or normal noise (gaussian)"
    )
    reference: ClassVar[str] = "Yeh et al. 2019"
    direction: ClassVar[Direction] = "lower"
    unit: ClassVar[Unit] = Unit.NUMBER
    range: ClassVar[tuple[float, float]] = (0, math.inf)
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK})

    perturbation: str = parameter(
        "square", "What is taken from the image: all of a square, or noise.", choices=("square", "gaussian")
    )
    size: float = parameter(
        0.25,
        "Side of the square as a share of the image's, or standard deviation of the noise.",
        minimum=1e-3,
        maximum=1,
    )
    samples: int = parameter(64, "Number of changed images.", minimum=1, maximum=10000)
    rescale: bool = parameter(True, "Scale each map as fits best.")
    seed: int = parameter(0, "Of the changes.", minimum=0, maximum=2**31 - 1)

    def _values(self, evidence: Evidence) -> Tensor:
        pairs, maps = evidence.pairs, evidence.pixels.double()
        foretold, happened = [], []
        for change in self.changes(evidence.images):
            scores = torch.cat(list(predict(evidence.given(Need.NETWORK), evidence.images - change))).double()
            probability = evidence.activation.probabilities(scores)[pairs.images, pairs.classes]
            happened.append(evidence.probability - probability)
            taken = change.sum(dim=1).cpu().double().expand(len(evidence.images), -1, -1)
            foretold.append((taken[pairs.images] * maps).sum(dim=(1, 2)))
        return self._error(torch.stack(foretold), torch.stack(happened))

    def _error(self, foretold: Tensor, happened: Tensor) -> Tensor:
        """Mean square over the samples, shape (samples, rows) to (rows,)."""
        if self.rescale:
            power = foretold.square().mean(dim=0)
            foretold = foretold * (foretold * happened).mean(dim=0) / power.where(power > 0, 1)
        return (foretold - happened).square().mean(dim=0)

    def changes(self, images: Tensor) -> Iterator[Tensor]:
        """`samples` times what to take from images, shape (batch or 1, 3, height, width)."""
        if self.perturbation == "gaussian":
            for noise in gaussian((self.samples, *images.shape[1:]), self.seed):
                yield (self.size * noise).to(images)[None]
            return
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.samples):
            square = torch.zeros(images.shape[2:])
            sides = [max(1, round(self.size * side)) for side in square.shape]
            starts = [
                int(torch.randint(whole - side + 1, (), generator=generator))
                for whole, side in zip(square.shape, sides, strict=True)
            ]
            square[starts[0] : starts[0] + sides[0], starts[1] : starts[1] + sides[1]] = 1
            yield images * square.to(images)
