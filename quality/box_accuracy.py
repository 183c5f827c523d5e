"""MaxBoxAcc: the box accuracy at the best threshold for the whole set."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from explainers import parameter
from quality.components import Components, components, intersection_over_union
from quality.evidence import Evidence, Need
from quality.localisation import BoxMetric
from quality.metric import Direction
from quality.registry import register

LEVELS = (0.3, 0.5, 0.7)
THRESHOLDS = "Number of thresholds, evenly spaced from 0; published figures use 1000."


def overlaps(evidence: Evidence, thresholds: int, any_component: bool) -> Tensor:
    """Best IoU of a row's boxes with the components of n(up(S)) >= i / thresholds, shape (rows, thresholds).

    Pixels are connected at their corners too. Only the largest component counts, unless `any_component`.
    """

    def compute() -> Tensor:
        levels = torch.arange(thresholds, dtype=torch.float32) / thresholds
        best = torch.zeros(len(evidence.pairs), thresholds, dtype=torch.float64)
        for row, (saliency, boxes) in enumerate(zip(evidence.pixels, evidence.given(Need.BOXES), strict=True)):
            found = components((saliency >= levels[:, None, None]).numpy())
            best[row] = torch.from_numpy(_best(found, boxes.cpu().numpy(), thresholds, any_component))
        return best

    return evidence.remember(("overlaps", thresholds, any_component), compute)


def _best(found: Components, truth: np.ndarray, thresholds: int, any_component: bool) -> np.ndarray:
    best = np.zeros(thresholds)
    if not any_component:
        found_boxes, of_threshold = found.largest_boxes(thresholds), np.arange(thresholds)
    else:
        found_boxes, of_threshold = found.boxes, found.mask
    np.maximum.at(best, of_threshold, intersection_over_union(found_boxes, truth).max(axis=1, initial=0))
    return best


@register
@dataclass(frozen=True)
class MaxBoxAccuracy(BoxMetric):
    """How often the box of the largest component overlaps the object's enough, at the best threshold for all images.

    A row's values are its hits at each threshold. The figure is the largest of the means, so that of one image says
    only whether any threshold finds the object.
    """

    name: ClassVar[str] = "max_box_accuracy"
    title: ClassVar[str] = "Box accuracy (BA, MaxBoxAcc)"
    formula: ClassVar[str] = (
        "max_t mean(1[max_b IoU(box_t, b) >= iou]); box_t: tight around the largest 8-connected component of "
        "n(up(S)) >= t"
    )
    reference: ClassVar[str] = "Choe et al. 2020"
    direction: ClassVar[Direction] = "higher"

    iou: float = parameter(0.5, "Overlap that counts as a hit: 0.3, 0.5 and 0.7 are usual.", minimum=0.01, maximum=1)
    thresholds: int = parameter(100, THRESHOLDS, minimum=1, maximum=1000)

    def _of_boxes(self, evidence: Evidence) -> Tensor:
        return overlaps(evidence, self.thresholds, any_component=False) >= self.iou

    def aggregate(self, values: Tensor) -> float:
        """The mean at the threshold where it is largest."""
        return float(values.mean(dim=0).max())


@register
@dataclass(frozen=True)
class MaxBoxAccuracyV2(BoxMetric):
    """The same with whichever component fits best, averaged over three levels of overlap.

    A row's values are its hits at each level and threshold.
    """

    name: ClassVar[str] = "max_box_accuracy_v2"
    title: ClassVar[str] = "Box accuracy over IoU 0.3, 0.5, 0.7 (MaxBoxAccV2)"
    formula: ClassVar[str] = (
        "mean over iou in (0.3, 0.5, 0.7) of max_t mean(1[max_b,k IoU(box_tk, b) >= iou]); box_tk: tight around each "
        "8-connected component k of n(up(S)) >= t"
    )
    reference: ClassVar[str] = "Choe et al. 2020"
    direction: ClassVar[Direction] = "higher"

    thresholds: int = parameter(100, THRESHOLDS, minimum=1, maximum=1000)

    def _of_boxes(self, evidence: Evidence) -> Tensor:
        best = overlaps(evidence, self.thresholds, any_component=True)
        return torch.cat([best >= level for level in LEVELS], dim=1)

    def aggregate(self, values: Tensor) -> float:
        """For each level the mean at the threshold where it is largest, averaged over the levels."""
        return float(values.mean(dim=0).view(len(LEVELS), -1).amax(dim=1).mean())
