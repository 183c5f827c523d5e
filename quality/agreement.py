"""How much two methods say the same of the same rows."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explainers import parameter
from quality.evidence import Evidence, Need
from quality.metric import Direction, Metric, Unit
from quality.ranks import rank_correlation
from quality.registry import register


@dataclass(frozen=True)
class Agreement(Metric, abc.ABC):
    """Compares cells of n(S) with those of the other map: on their grid if it is the same one, else on the pixels."""

    direction: ClassVar[Direction] = "higher"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OTHER_MAPS})

    def _values(self, evidence: Evidence) -> Tensor:
        ours, theirs = evidence.native, evidence.other_native
        if ours.maps.shape == theirs.maps.shape:
            values = self.compare(ours.maps.flatten(1), theirs.maps.flatten(1))
        else:
            values = self.compare(evidence.pixels.flatten(1), evidence.other_pixels.flatten(1))
        return values.masked_fill(theirs.degenerate, torch.nan)

    @abc.abstractmethod
    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Shape (rows, cells) each, to shape (rows,)."""


@register
@dataclass(frozen=True)
class RankCorrelation(Agreement):
    """Whether two maps put their cells into the same order."""

    name: ClassVar[str] = "rank_correlation"
    title: ClassVar[str] = "Spearman rank correlation"
    formula: ClassVar[str] = (
        "Pearson correlation of the ranks of the cells of both maps; equal cells share their mean rank"
    )
    reference: ClassVar[str] = "Spearman 1904"
    unit: ClassVar[Unit] = Unit.NUMBER
    range: ClassVar[tuple[float, float]] = (-1, 1)

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The correlation."""
        return rank_correlation(ours, theirs)


@register
@dataclass(frozen=True)
class TopOverlap(Agreement):
    """Whether two maps mark the same cells as their highest. Of equal cells the first from the top left count."""

    name: ClassVar[str] = "top_overlap"
    title: ClassVar[str] = "IoU of the highest 10 %"
    formula: ClassVar[str] = "IoU of the sets of the highest max(1, round(share n)) of n cells of both maps"
    reference: ClassVar[str] = "after Ghorbani et al. 2019"

    share: float = parameter(0.1, "Of the cells that count as highest.", minimum=0.001, maximum=1)

    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The overlap."""
        count = max(1, round(self.share * ours.shape[1]))
        marks = []
        for cells in (ours, theirs):
            highest = cells.argsort(dim=1, descending=True, stable=True)[:, :count]
            marks.append(torch.zeros(cells.shape, dtype=torch.bool).scatter_(1, highest, True))
        return (marks[0] & marks[1]).sum(dim=1).double() / (marks[0] | marks[1]).sum(dim=1)
