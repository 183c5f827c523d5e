"""Average drop, average increase, average gain and Win %: the class probability on the image behind its map."""

import abc
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor

from explainers.masking import masked_logits
from quality.evidence import Evidence, Need
from quality.metric import Direction, Metric, Unit
from quality.passes import parts
from quality.registry import register


class Part(StrEnum):
    """Which mask lies on the image."""

    MAP = "map"
    OTHER_MAP = "other map"
    BOX = "box"
    MAP_IN_BOX = "map in box"
    MAP_OUTSIDE_BOX = "map outside box"


def masked_probability(evidence: Evidence, part: Part = Part.MAP) -> Tensor:
    """o: probability of each row's class on f(N(x * mask)), shape (rows,), float64. One forward pass for each row."""
    return evidence.remember(("masked", part), lambda: _masked_probability(evidence, _mask(evidence, part)))


def _mask(evidence: Evidence, part: Part) -> Tensor:
    match part:
        case Part.MAP:
            return evidence.pixels
        case Part.OTHER_MAP:
            return evidence.other_pixels
        case Part.BOX:
            return evidence.inside.float()
        case Part.MAP_IN_BOX:
            return evidence.pixels * evidence.inside
        case Part.MAP_OUTSIDE_BOX:
            return evidence.pixels * ~evidence.inside


def _masked_probability(evidence: Evidence, masks: Tensor) -> Tensor:
    network, pairs = evidence.given(Need.NETWORK), evidence.pairs
    found = [torch.empty(0, dtype=torch.float64)]
    with torch.inference_mode():
        for rows in parts(network, torch.arange(len(pairs))):
            images = evidence.images[pairs.images[rows]].to(network.device)
            logits = masked_logits(network, images, masks[rows].to(network.device))
            probabilities = network.activation.probabilities(logits.cpu().double())
            found.append(probabilities.gather(1, pairs.classes[rows, None])[:, 0])
    return torch.cat(found).clone()


def relative_drop(p: Tensor, o: Tensor) -> Tensor:
    """max(0, p - o) / p; 0 where p is 0, from where nothing can drop."""
    drop = (p - o).clamp(min=0)
    return drop / p.where(drop != 0, 1)


def relative_gain(p: Tensor, o: Tensor) -> Tensor:
    """max(0, o - p) / (1 - p); 0 where p is 1, from where nothing can be gained."""
    gain = (o - p).clamp(min=0)
    return gain / (1 - p).where(gain != 0, 1)


@dataclass(frozen=True)
class MaskedMetric(Metric):
    """A metric of p, the class probability on the image, and o, that on the masked image."""

    unit: ClassVar[Unit] = Unit.PERCENT
    range: ClassVar[tuple[float, float]] = (0, 100)
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK})
    part: ClassVar[Part] = Part.MAP

    def _values(self, evidence: Evidence) -> Tensor:
        p, o = evidence.probability, masked_probability(evidence, self.part)
        return (100 * self.compare(p, o)).where(p.isfinite() & o.isfinite(), torch.nan)

    @staticmethod
    @abc.abstractmethod
    def compare(p: Tensor, o: Tensor) -> Tensor:
        """The metric as a share, for p and o of shape (rows,)."""


@register
@dataclass(frozen=True)
class AverageDrop(MaskedMetric):
    """How much of the class probability is lost behind the map. Fake-CAM, which hides one pixel, gets almost 0."""

    name: ClassVar[str] = "average_drop"
    title: ClassVar[str] = "Average drop (AD)"
    formula: ClassVar[str] = "100 mean(max(0, p - o) / p); p = p_c(x), o = p_c(x * n(up(S)))"
    reference: ClassVar[str] = "Chattopadhyay et al. 2018"
    direction: ClassVar[Direction] = "lower"

    @staticmethod
    def compare(p: Tensor, o: Tensor) -> Tensor:
        """The relative drop."""
        return relative_drop(p, o)


@register
@dataclass(frozen=True)
class AverageIncrease(MaskedMetric):
    """How often the class is more probable behind the map. Fake-CAM gets about 50."""

    name: ClassVar[str] = "average_increase"
    title: ClassVar[str] = "Average increase (AI)"
    formula: ClassVar[str] = "100 mean(1[o > p]); p = p_c(x), o = p_c(x * n(up(S)))"
    reference: ClassVar[str] = "Chattopadhyay et al. 2018"
    direction: ClassVar[Direction] = "higher"

    @staticmethod
    def compare(p: Tensor, o: Tensor) -> Tensor:
        """1 where the class became more probable."""
        return (o > p).to(p.dtype)


@register
@dataclass(frozen=True)
class AverageGain(MaskedMetric):
    """How much of the missing class probability is won behind the map. Fake-CAM gets almost 0."""

    name: ClassVar[str] = "average_gain"
    title: ClassVar[str] = "Average gain (AG)"
    formula: ClassVar[str] = "100 mean(max(0, o - p) / (1 - p)); p = p_c(x), o = p_c(x * n(up(S)))"
    reference: ClassVar[str] = "Zhang et al. 2024"
    direction: ClassVar[Direction] = "higher"

    @staticmethod
    def compare(p: Tensor, o: Tensor) -> Tensor:
        """The relative gain."""
        return relative_gain(p, o)


@register
@dataclass(frozen=True)
class WinPercentage(Metric):
    """How often a method drops less than another one on the same images. Equal drops are no win."""

    name: ClassVar[str] = "win_percentage"
    title: ClassVar[str] = "Win %"
    formula: ClassVar[str] = "100 mean(1[drop of S < drop of the other map]); drop = max(0, p - o) / p"
    reference: ClassVar[str] = "Chattopadhyay et al. 2018"
    direction: ClassVar[Direction] = "higher"
    unit: ClassVar[Unit] = Unit.PERCENT
    range: ClassVar[tuple[float, float]] = (0, 100)
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK, Need.OTHER_MAPS})

    def _values(self, evidence: Evidence) -> Tensor:
        p = evidence.probability
        ours, theirs = (relative_drop(p, masked_probability(evidence, part)) for part in (Part.MAP, Part.OTHER_MAP))
        defined = ours.isfinite() & theirs.isfinite() & ~evidence.other_native.degenerate
        return (100.0 * (ours < theirs)).where(defined, torch.nan)
