"""The saliency metric of Dabkowski and Gal."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explainers import parameter
from quality.evidence import Evidence, Need
from quality.metric import Direction, Metric, Unit
from quality.passes import predict
from quality.registry import register

SMALLEST_AREA = 0.05


@register
@dataclass(frozen=True)
class SaliencyMetric(Metric):
    """How small the crop that holds the salient region is, and how surely the class is recognised in it.

    Costs one forward pass for each row.
    """

    name: ClassVar[str] = "saliency_metric"
    title: ClassVar[str] = "Saliency metric (SM)"
    formula: ClassVar[str] = (
        "mean(log max(0.05, a) - log p_c(crop)); crop: the tight box around all of S > threshold (its mean when not "
        "given), S = n(up(S)), enlarged bilinearly to the input's size; a: its share of the image's area"
    )
    reference: ClassVar[str] = "Dabkowski and Gal 2017"
    direction: ClassVar[Direction] = "lower"
    unit: ClassVar[Unit] = Unit.NUMBER
    range: ClassVar[tuple[float, float]] = (math.log(SMALLEST_AREA), math.inf)
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK})

    threshold: float | None = parameter(
        None,
        "Above which share of the maximum the map is salient; without it, above its mean.",
        minimum=0,
        maximum=0.99,
    )

    def _values(self, evidence: Evidence) -> Tensor:
        pairs, pixels = evidence.pairs, evidence.size[0] * evidence.size[1]
        boxes = self._boxes(evidence)
        if not len(pairs):
            return torch.empty(0)
        crops = torch.cat([_crop(evidence.images[image], box) for image, box in zip(pairs.images, boxes, strict=True)])
        scores = torch.cat(list(predict(evidence.given(Need.NETWORK), crops))).double()
        log_probability = evidence.activation.log_probabilities(scores).gather(1, pairs.classes[:, None])[:, 0]
        areas = torch.tensor([(x1 - x0) * (y1 - y0) / pixels for x0, y0, x1, y1 in boxes], dtype=torch.float64)
        return areas.clamp(min=SMALLEST_AREA).log() - log_probability

    def _boxes(self, evidence: Evidence) -> list[tuple[int, int, int, int]]:
        maps = evidence.pixels
        limit = maps.double().mean(dim=(1, 2), keepdim=True) if self.threshold is None else self.threshold
        return [_tight_box(salient) for salient in maps > limit]


def _tight_box(salient: Tensor) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around all that is set, the last two exclusive; the whole image where nothing is."""
    rows, columns = salient.any(dim=1).nonzero(), salient.any(dim=0).nonzero()
    if not len(rows):
        return 0, 0, salient.shape[1], salient.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _crop(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """A part of an image, shape (3, height, width), enlarged to the whole's size, shape (1, 3, height, width)."""
    x0, y0, x1, y1 = box
    crop = image[None, :, y0:y1, x0:x1]
    return torch.nn.functional.interpolate(crop, size=image.shape[1:], mode="bilinear", align_corners=False)
