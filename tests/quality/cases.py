"""One row for each metric: how it is tried, and whether it must prefer a right map to its inverse."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Network
from quality import METRICS, Evidence, Metric, explain_by
from tests.explainers.networks import ResidualCnn, network, pictures, prepare
from tests.quality.toys import RedObject, middle, toy

CLASSES = ((0, 3), (2,), (1, 4))
SIDE = 12


@dataclass(frozen=True)
class Case:
    """A metric in the table.

    Attributes:
        parameters: other than the defaults, to be quick.
        prefers_right: a map of the object is better than its inverse. False where that is not what it asks.
    """

    parameters: tuple[tuple[str, Any], ...] = ()
    prefers_right: bool = True

    def metric(self, name: str) -> Metric:
        """The metric."""
        return METRICS[name](**dict(self.parameters))


SAME = Case(prefers_right=False)

CASES = {
    "average_drop": Case(),
    "average_increase": Case(),
    "average_gain": Case(),
    "win_percentage": Case(),
    # B alone doesn't depend on the map, and nothing increases outside of the object
    "average_drop_box": SAME,
    "average_increase_box": SAME,
    "average_gain_box": SAME,
    "average_drop_inside_box": Case(),
    "average_increase_inside_box": Case(),
    "average_gain_inside_box": Case(),
    "average_drop_outside_box": Case(),
    "average_increase_outside_box": SAME,
    "average_gain_outside_box": SAME,
    "insertion": Case((("steps", 9),)),
    "deletion": Case((("steps", 9),)),
    "positive_perturbation": Case(),
    "positive_perturbation_with_zero": Case(),
    "negative_perturbation": Case(),
    "negative_perturbation_with_zero": Case(),
    "localisation_error": Case(),
    "localisation_error_at_half": Case(),
    "official_metric": Case(),
    "official_metric_at_half": Case(),
    "pixel_f1": Case(),
    "pointing_game": Case(),
    "energy_pointing_game": Case(),
    "threshold_iou": Case(),
    "max_box_accuracy": Case((("thresholds", 10),)),
    "max_box_accuracy_v2": Case((("thresholds", 10),)),
    "saliency_metric": Case(),
    "pixel_accuracy": Case(),
    "mean_iou": Case(),
    "average_precision": Case(),
    # an inverse is as sparse or as spread out as it happens to be
    "gini_sparseness": Case(),
    "entropy": Case(),
    "border_mass": Case(),
    "corner_mass": Case(),
    "max_sensitivity": Case((("samples", 2),), prefers_right=False),
    "infidelity": Case((("samples", 16),)),
    "model_randomisation": Case((("stages", 2),), prefers_right=False),
    "rank_correlation": Case(),
    "top_overlap": Case(),
}

each_metric = pytest.mark.parametrize("name", sorted(METRICS))


@cache
def model() -> nn.Module:
    """The network of `evidence`."""
    return prepare(ResidualCnn())


@cache
def shared_network() -> Network:
    """The same, ready to explain."""
    return network(model())


def evidence(count: int = 3, net: Network | None = None, images: Tensor | None = None) -> Evidence:
    """Images with two classes, one and two, everything that a metric may need, and maps of a pixel method."""
    net = net or shared_network()
    images = pictures(count) if images is None else images
    classes = CLASSES[:count]
    generator = torch.Generator().manual_seed(9)
    rows = sum(map(len, classes))
    explain = explain_by(METHODS["layer_cam"]())
    corners = 14 * torch.rand(rows, 2, 2, generator=generator)
    return Evidence(
        images,
        classes,
        explain(net, images, classes),
        network=net,
        boxes=tuple(torch.cat([corner, corner + 15], dim=1) for corner in corners),
        masks=torch.rand(rows, 32, 32, generator=generator) < 0.4,
        other_maps=torch.rand(rows, 5, 5, generator=generator),
        explain=explain,
        model=model(),
    )


def one_image(whole: Evidence, index: int) -> Evidence:
    """One image out of a batch, with everything that belongs to it."""
    start = sum(map(len, whole.classes[:index]))
    rows = slice(start, start + len(whole.classes[index]))
    parts: dict[str, Any] = {name: getattr(whole, name)[rows] for name in ("maps", "boxes", "masks", "other_maps")}
    return replace(whole, images=whole.images[index : index + 1], classes=(whole.classes[index],), **parts)


def narrowed(saliency: Tensor) -> Tensor:
    """A map with the same order that shows less of the object: better than the inverse, worse than the map itself."""
    return saliency**16


def object_evidence(*, right: bool) -> Evidence:
    """A red object on green, with a map of the object (highest in its centre) or with the inverse of that map."""
    inside = middle(SIDE)
    image = torch.full((1, 3, SIDE, SIDE), 0.1)
    image[0, 0, inside], image[0, 1, ~inside] = 1, 1
    away = ((torch.arange(SIDE) - SIDE / 2 + 0.5) / SIDE).abs()
    away = torch.maximum(away[:, None], away)
    rightly = torch.where(inside, 1 - away, 0.1 - 0.1 * away)
    net = RedObject()
    start, end = SIDE / 4, SIDE - SIDE / 4
    return Evidence(
        image,
        ((0,),),
        (rightly if right else 1 - rightly)[None],
        network=toy(net, (SIDE, SIDE)),
        boxes=(torch.tensor([[start, start, end, end]]),),
        masks=inside[None],
        other_maps=narrowed(rightly)[None],
        explain=explain_by(METHODS["occlusion"]()),
        model=net,
    )
