"""The bounding-box study: AD, AI and AG when the mask is the object's box B, or the map inside or outside of it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quality.evidence import Evidence, Need
from quality.masked import AverageDrop, AverageGain, AverageIncrease, MaskedMetric, Part
from quality.registry import register


@dataclass(frozen=True)
class BoxStudy(MaskedMetric):
    """A metric behind a mask that the ground truth has a part in; not defined where no pixel lies in a box."""

    reference: ClassVar[str] = "Zhang et al. 2024"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK, Need.BOXES})

    def _values(self, evidence: Evidence) -> Tensor:
        return super()._values(evidence).where(evidence.inside.flatten(1).any(dim=1), torch.nan)


@register
@dataclass(frozen=True)
class AverageDropBox(BoxStudy, AverageDrop):
    """Average drop behind the box."""

    name: ClassVar[str] = "average_drop_box"
    title: ClassVar[str] = "Average drop behind the box"
    formula: ClassVar[str] = "100 mean(max(0, p - o) / p); o = p_c(x * B), B = 1 in the boxes, else 0"
    part: ClassVar[Part] = Part.BOX


@register
@dataclass(frozen=True)
class AverageDropInsideBox(BoxStudy, AverageDrop):
    """Average drop behind the map inside the box."""

    name: ClassVar[str] = "average_drop_inside_box"
    title: ClassVar[str] = "Average drop behind the map inside the box"
    formula: ClassVar[str] = "100 mean(max(0, p - o) / p); o = p_c(x * n(up(S)) * B), B = 1 in the boxes, else 0"
    part: ClassVar[Part] = Part.MAP_IN_BOX


@register
@dataclass(frozen=True)
class AverageDropOutsideBox(BoxStudy, AverageDrop):
    """Average drop behind the map outside the box."""

    name: ClassVar[str] = "average_drop_outside_box"
    title: ClassVar[str] = "Average drop behind the map outside the box"
    formula: ClassVar[str] = "100 mean(max(0, p - o) / p); o = p_c(x * n(up(S)) * (1 - B)), B = 1 in the boxes, else 0"
    part: ClassVar[Part] = Part.MAP_OUTSIDE_BOX


@register
@dataclass(frozen=True)
class AverageIncreaseBox(BoxStudy, AverageIncrease):
    """Average increase behind the box."""

    name: ClassVar[str] = "average_increase_box"
    title: ClassVar[str] = "Average increase behind the box"
    formula: ClassVar[str] = "100 mean(1[o > p]); o = p_c(x * B), B = 1 in the boxes, else 0"
    part: ClassVar[Part] = Part.BOX


@register
@dataclass(frozen=True)
class AverageIncreaseInsideBox(BoxStudy, AverageIncrease):
    """Average increase behind the map inside the box."""

    name: ClassVar[str] = "average_increase_inside_box"
    title: ClassVar[str] = "Average increase behind the map inside the box"
    formula: ClassVar[str] = "100 mean(1[o > p]); o = p_c(x * n(up(S)) * B), B = 1 in the boxes, else 0"
    part: ClassVar[Part] = Part.MAP_IN_BOX


@register
@dataclass(frozen=True)
class AverageIncreaseOutsideBox(BoxStudy, AverageIncrease):
    """Average increase behind the map outside the box."""

    name: ClassVar[str] = "average_increase_outside_box"
    title: ClassVar[str] = "Average increase behind the map outside the box"
    formula: ClassVar[str] = "100 mean(1[o > p]); o = p_c(x * n(up(S)) * (1 - B)), B = 1 in the boxes, else 0"
    part: ClassVar[Part] = Part.MAP_OUTSIDE_BOX


@register
@dataclass(frozen=True)
class AverageGainBox(BoxStudy, AverageGain):
    """Average gain behind the box."""

    name: ClassVar[str] = "average_gain_box"
    title: ClassVar[str] = "Average gain behind the box"
    formula: ClassVar[str] = "100 mean(max(0, o - p) / (1 - p)); o = p_c(x * B), B = 1 in the boxes, else 0"
    part: ClassVar[Part] = Part.BOX


@register
@dataclass(frozen=True)
class AverageGainInsideBox(BoxStudy, AverageGain):
    """Average gain behind the map inside the box."""

    name: ClassVar[str] = "average_gain_inside_box"
    title: ClassVar[str] = "Average gain behind the map inside the box"
    formula: ClassVar[str] = "100 mean(max(0, o - p) / (1 - p)); o = p_c(x * n(up(S)) * B), B = 1 in the boxes, else 0"
    part: ClassVar[Part] = Part.MAP_IN_BOX


@register
@dataclass(frozen=True)
class AverageGainOutsideBox(BoxStudy, AverageGain):
    """Average gain behind the map outside the box."""

    name: ClassVar[str] = "average_gain_outside_box"
    title: ClassVar[str] = "Average gain behind the map outside the box"
    formula: ClassVar[str] = (
        "100 mean(max(0, o - p) / (1 - p)); o = p_c(x * n(up(S)) * (1 - B)), B = 1 in the boxes, else 0"
    )
    part: ClassVar[Part] = Part.MAP_OUTSIDE_BOX
