"""What a map looks like, whatever it explains: sparse or spread out, at the edge or in a corner."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explainers import parameter
from quality.evidence import Evidence
from quality.metric import Direction, Metric
from quality.registry import register


@register
@dataclass(frozen=True)
class GiniSparseness(Metric):
    """How unequally the map's energy is spread over its cells: 0 evenly, 1 - 1/n all in one of n."""

    name: ClassVar[str] = "gini_sparseness"
    title: ClassVar[str] = "Gini sparseness"
    formula: ClassVar[str] = "sum_i (2 i - n - 1) v_i / (n sum_i v_i); v_1 <= ... <= v_n: the cells of n(S) on its grid"
    reference: ClassVar[str] = "Chalasani et al. 2020"
    direction: ClassVar[Direction] = "higher"

    def _values(self, evidence: Evidence) -> Tensor:
        values = evidence.native.maps.flatten(1).double().sort(dim=1).values
        count = values.shape[1]
        weights = 2 * torch.arange(1, count + 1, dtype=torch.float64) - count - 1
        return (values @ weights) / (count * _energy(values))


@register
@dataclass(frozen=True)
class Entropy(Metric):
    """How many cells the map's energy is spread over: 1 evenly over all, 0 all in one. A measure of complexity."""

    name: ClassVar[str] = "entropy"
    title: ClassVar[str] = "Entropy"
    formula: ClassVar[str] = "-sum_i q_i log q_i / log n; q = n(S) / sum n(S) over the n cells of its grid"
    reference: ClassVar[str] = "Bhatt et al. 2020"
    direction: ClassVar[Direction] = "lower"

    def _values(self, evidence: Evidence) -> Tensor:
        values = evidence.native.maps.flatten(1).double()
        shares = values / _energy(values)[:, None]
        entropy = -torch.xlogy(shares, shares).sum(dim=1)
        return (entropy / math.log(max(values.shape[1], 2))).clamp(0, 1)  # but for rounding it is there


def _energy(values: Tensor) -> Tensor:
    """Sum of each row, 1 for a row of zeros: a degenerate map, which has no figure anyway."""
    total = values.sum(dim=1)
    return total.where(total > 0, 1)


@register
@dataclass(frozen=True)
class BorderMass(Metric):
    """How much of the map's energy is along the edges of the image, where padding leaves its traces.

    An even map has 1 - (1 - 2 width)^2 of it there: 0.36 at the default width.
    """

    name: ClassVar[str] = "border_mass"
    title: ClassVar[str] = "Border mass"
    formula: ClassVar[str] = "energy of n(up(S)) nearer to an edge than width times the image's side / its energy"
    reference: ClassVar[str] = "this project"
    direction: ClassVar[Direction] = "lower"

    width: float = parameter(0.1, "Of the border, as a share of the image's side.", minimum=0.01, maximum=0.5)

    def _values(self, evidence: Evidence) -> Tensor:
        near_y, near_x = _near_ends(evidence, self.width)
        return _mass(evidence, near_y[:, None] | near_x)


@register
@dataclass(frozen=True)
class CornerMass(Metric):
    """How much of the map's energy is in the four corners of the image. An even map has 4 width^2 of it there."""

    name: ClassVar[str] = "corner_mass"
    title: ClassVar[str] = "Corner mass"
    formula: ClassVar[str] = "energy of n(up(S)) in the corners, width times the sides of the image / its energy"
    reference: ClassVar[str] = "this project"
    direction: ClassVar[Direction] = "lower"

    width: float = parameter(0.2, "Of a corner, as a share of the image's side.", minimum=0.01, maximum=0.5)

    def _values(self, evidence: Evidence) -> Tensor:
        near_y, near_x = _near_ends(evidence, self.width)
        return _mass(evidence, near_y[:, None] & near_x)


def _near_ends(evidence: Evidence, share: float) -> tuple[Tensor, Tensor]:
    """The rows and the columns of pixels whose centre is nearer to an end than a share of the side."""
    near = []
    for side in evidence.size:
        centres = (torch.arange(side, dtype=torch.float64) + 0.5) / side
        near.append(torch.minimum(centres, 1 - centres) < share)
    return near[0], near[1]


def _mass(evidence: Evidence, region: Tensor) -> Tensor:
    values = evidence.pixels.flatten(1).double()
    return (values * region.flatten()).sum(dim=1) / _energy(values)
