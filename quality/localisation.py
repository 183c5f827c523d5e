"""Does the map lie where the object is? Against ground-truth boxes, in pixels of the network's input."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from explainers import parameter
from quality.components import components, intersection_over_union
from quality.evidence import Evidence, Need
from quality.metric import Direction, Metric
from quality.registry import register

HALF = 0.5
BOXES = frozenset({Need.BOXES})


@dataclass(frozen=True)
class BoxMetric(Metric, abc.ABC):
    """A metric against boxes; not defined for rows without a box."""

    needs: ClassVar[frozenset[Need]] = BOXES

    def _values(self, evidence: Evidence) -> Tensor:
        has_box = torch.tensor([len(boxes) > 0 for boxes in evidence.given(Need.BOXES)], dtype=torch.bool)
        values = self._of_boxes(evidence).double()
        return values.masked_fill(~has_box.view(-1, *[1] * (values.dim() - 1)), torch.nan)

    @abc.abstractmethod
    def _of_boxes(self, evidence: Evidence) -> Tensor:
        """As `_values`; rows without a box may get anything."""


@dataclass(frozen=True)
class TightBoxMetric(BoxMetric, abc.ABC):
    """A metric of the tight box around the largest connected component of what is above the map's mean."""

    direction: ClassVar[Direction] = "lower"
    binarised: ClassVar[bool] = False
    needs_right_class: ClassVar[bool] = False

    connectivity: str = parameter(
        "8", "Whether pixels are connected at their sides only (4) or also at their corners (8).", choices=("4", "8")
    )

    def _of_boxes(self, evidence: Evidence) -> Tensor:
        maps = evidence.pixels
        above = (maps > maps.double().mean(dim=(1, 2), keepdim=True)).numpy()
        found = components(above, int(self.connectivity)).largest_boxes(len(above))
        overlap = _best_overlap(found, evidence.given(Need.BOXES))
        error = (overlap < HALF).double() if self.binarised else 1 - overlap
        return error.where(evidence.right, 1) if self.needs_right_class else error


def _best_overlap(found: np.ndarray, truth: tuple[Tensor, ...]) -> Tensor:
    """max IoU of one box a row with that row's boxes, shape (rows,)."""
    best = [
        intersection_over_union(box[None], boxes.cpu().numpy()).max(initial=0)
        for box, boxes in zip(found, truth, strict=True)
    ]
    return torch.tensor(best, dtype=torch.float64)


@register
@dataclass(frozen=True)
class LocalisationError(TightBoxMetric):
    """How far the map's box is from the nearest of the object's boxes, whatever the network predicts."""

    name: ClassVar[str] = "localisation_error"
    title: ClassVar[str] = "Localisation error (LE)"
    formula: ClassVar[str] = (
        "mean(1 - max_b IoU(box, b)); box: tight around the largest connected component of S > mean(S) "
        "(the first one of equals), S = n(up(S)); b: ground-truth boxes"
    )
    reference: ClassVar[str] = "Zhang et al. 2024"


@register
@dataclass(frozen=True)
class LocalisationErrorAtHalf(TightBoxMetric):
    """The same, counting only whether the boxes overlap by half."""

    name: ClassVar[str] = "localisation_error_at_half"
    title: ClassVar[str] = "Localisation error, binarised at IoU 0.5"
    formula: ClassVar[str] = "mean(1[max_b IoU(box, b) < 0.5]); box as in localisation_error"
    reference: ClassVar[str] = "Russakovsky et al. 2015"
    binarised: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class OfficialMetric(TightBoxMetric):
    """Localisation error where the row's class is the predicted one, 1 where it is not."""

    name: ClassVar[str] = "official_metric"
    title: ClassVar[str] = "Official metric (OM)"
    formula: ClassVar[str] = "mean(1 - max_b IoU(box, b) where argmax f(x) = c, else 1); box as in localisation_error"
    reference: ClassVar[str] = "Zhang et al. 2024"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK, Need.BOXES})
    needs_right_class: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class OfficialMetricAtHalf(TightBoxMetric):
    """The same, counting only whether the boxes overlap by half: the error of the ILSVRC localisation challenge."""

    name: ClassVar[str] = "official_metric_at_half"
    title: ClassVar[str] = "Official metric, binarised at IoU 0.5"
    formula: ClassVar[str] = "mean(1[max_b IoU(box, b) < 0.5] where argmax f(x) = c, else 1); box as above"
    reference: ClassVar[str] = "Russakovsky et al. 2015"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK, Need.BOXES})
    binarised: ClassVar[bool] = True
    needs_right_class: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class PixelF1(BoxMetric):
    """Harmonic mean of how much of the map is on the object and how much of the object is in the map."""

    name: ClassVar[str] = "pixel_f1"
    title: ClassVar[str] = "Pixel-wise F1 score"
    formula: ClassVar[str] = (
        "mean(2 P R / (P + R)); P = energy of n(up(S)) inside U / energy, R = energy inside U / area of U, "
        "U = union of the boxes"
    )
    reference: ClassVar[str] = "Zhang et al. 2024"
    direction: ClassVar[Direction] = "higher"

    def _of_boxes(self, evidence: Evidence) -> Tensor:
        maps, inside = evidence.pixels.double(), evidence.inside
        energy, area = maps.sum(dim=(1, 2)), inside.sum(dim=(1, 2))
        # 2 P R / (P + R) with P = e / energy and R = e / area
        return 2 * (maps * inside).sum(dim=(1, 2)) / (energy + area).where(area > 0, torch.nan)


@register
@dataclass(frozen=True)
class PointingGame(BoxMetric):
    """Whether the map's maximum is on the object. Of equal maxima the first from the top left counts."""

    name: ClassVar[str] = "pointing_game"
    title: ClassVar[str] = "Standard pointing game (SP)"
    formula: ClassVar[str] = "mean(1[distance of argmax n(up(S)) to a box <= tolerance])"
    reference: ClassVar[str] = "Zhang et al. 2018"
    direction: ClassVar[Direction] = "higher"

    tolerance: float = parameter(0.0, "Pixels that the maximum may lie outside; 15 is usual.", minimum=0, maximum=4096)

    def _of_boxes(self, evidence: Evidence) -> Tensor:
        places = evidence.pixels.flatten(1).numpy().argmax(axis=1)  # numpy promises the first of equals
        width = evidence.size[1]
        hits = [
            _distance(place % width + 0.5, place // width + 0.5, boxes) <= self.tolerance
            for place, boxes in zip(places.tolist(), evidence.given(Need.BOXES), strict=True)
        ]
        return torch.tensor(hits, dtype=torch.float64)


def _distance(x: float, y: float, boxes: Tensor) -> float:
    """Distance of a point to the nearest of some boxes; infinite without a box."""
    x0, y0, x1, y1 = boxes.cpu().double().numpy().reshape(-1, 4).T
    across, along = np.maximum(np.maximum(x0 - x, x - x1), 0), np.maximum(np.maximum(y0 - y, y - y1), 0)
    return float(np.hypot(across, along).min(initial=np.inf))


@register
@dataclass(frozen=True)
class EnergyPointingGame(BoxMetric):
    """How much of the map's energy is on the object. Also known as Proportion."""

    name: ClassVar[str] = "energy_pointing_game"
    title: ClassVar[str] = "Energy pointing game (EP, Proportion)"
    formula: ClassVar[str] = "mean(energy of n(up(S)) inside the boxes / its energy)"
    reference: ClassVar[str] = "Wang et al. 2020"
    direction: ClassVar[Direction] = "higher"

    def _of_boxes(self, evidence: Evidence) -> Tensor:
        maps = evidence.pixels.double()
        return (maps * evidence.inside).sum(dim=(1, 2)) / maps.sum(dim=(1, 2))


@register
@dataclass(frozen=True)
class ThresholdIoU(BoxMetric):
    """Overlap of the boxes with what the map marks at one threshold."""

    name: ClassVar[str] = "threshold_iou"
    title: ClassVar[str] = "IoU(delta)"
    formula: ClassVar[str] = (
        "mean(internal / (box + external)); internal, external: pixels with n(up(S)) > delta inside and outside the "
        "boxes, box: pixels inside"
    )
    reference: ClassVar[str] = "Chattopadhyay et al. 2018"
    direction: ClassVar[Direction] = "higher"

    delta: float = parameter(0.5, "Threshold on the map in [0, 1]: 0, 0.25 and 0.5 are usual.", minimum=0, maximum=0.99)

    def _of_boxes(self, evidence: Evidence) -> Tensor:
        marked, inside = evidence.pixels > self.delta, evidence.inside
        internal, external = (marked & inside).sum(dim=(1, 2)), (marked & ~inside).sum(dim=(1, 2))
        area = inside.sum(dim=(1, 2))
        return internal.double() / (area + external).double().where(area > 0, torch.nan)
