"""The map as a segmentation of the object, against a mask of its pixels."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from quality.evidence import Evidence, Need
from quality.metric import Direction, Metric
from quality.registry import register


@dataclass(frozen=True)
class MaskMetric(Metric, abc.ABC):
    """A metric against a mask; not defined where the object has no pixels."""

    direction: ClassVar[Direction] = "higher"
    reference: ClassVar[str] = "Chefer et al. 2021"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.MASKS})

    def _values(self, evidence: Evidence) -> Tensor:
        masks = evidence.given(Need.MASKS).cpu().bool()
        return self._of_masks(evidence.pixels, masks).masked_fill(~masks.flatten(1).any(dim=1), torch.nan)

    @staticmethod
    @abc.abstractmethod
    def _of_masks(maps: Tensor, masks: Tensor) -> Tensor:
        """Values for n(up(S)) and masks, both of shape (rows, height, width), float64."""


def above_mean(maps: Tensor) -> Tensor:
    """The pixels above each map's mean."""
    return maps > maps.double().mean(dim=(1, 2), keepdim=True)


@register
@dataclass(frozen=True)
class PixelAccuracy(MaskMetric):
    """Share of the pixels that the map puts on the right side of the object's edge."""

    name: ClassVar[str] = "pixel_accuracy"
    title: ClassVar[str] = "Pixel accuracy"
    formula: ClassVar[str] = "mean(1[(S > mean(S)) = mask]) over pixels, then over images; S = n(up(S))"

    @staticmethod
    def _of_masks(maps: Tensor, masks: Tensor) -> Tensor:
        return (above_mean(maps) == masks).double().mean(dim=(1, 2))


@register
@dataclass(frozen=True)
class MeanIoU(MaskMetric):
    """Overlap with the object and overlap with the background, averaged.

    For each image, and then averaged. Figures that add up the pixels of a whole set before dividing are other figures.
    """

    name: ClassVar[str] = "mean_iou"
    title: ClassVar[str] = "mIoU"
    formula: ClassVar[str] = (
        "mean of the IoU of S > mean(S) with the mask and that of S <= mean(S) with the rest, for each image, then "
        "over images; S = n(up(S))"
    )

    @staticmethod
    def _of_masks(maps: Tensor, masks: Tensor) -> Tensor:
        marked = above_mean(maps)
        return (_iou(marked, masks) + _iou(~marked, ~masks)) / 2


def _iou(a: Tensor, b: Tensor) -> Tensor:
    union = (a | b).sum(dim=(1, 2)).double()
    return (a & b).sum(dim=(1, 2)) / union.clamp(min=1)


@register
@dataclass(frozen=True)
class AveragePrecision(MaskMetric):
    """How well the map's values rank the object's pixels before all others; pixels of equal value count together."""

    name: ClassVar[str] = "average_precision"
    title: ClassVar[str] = "Average precision (AP)"
    formula: ClassVar[str] = (
        "sum_t (R_t - R_(t-1)) P_t over the different values t of up(S), descending; P, R: precision and recall of "
        "up(S) >= t against the mask; for each image, then the mean"
    )

    @staticmethod
    def _of_masks(maps: Tensor, masks: Tensor) -> Tensor:
        rows = zip(maps.flatten(1).numpy(), masks.flatten(1).numpy(), strict=True)
        return torch.tensor([_average_precision(*row) for row in rows], dtype=torch.float64)


def _average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.nonzero(np.diff(scores[order]))[0], len(order) - 1)
    found = np.cumsum(positive[order])[last_of_equals]
    precision = found / (last_of_equals + 1)
    return float((np.diff(found, prepend=0) * precision).sum() / max(found[-1], 1))
