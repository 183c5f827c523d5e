"""What a network says while pixels are removed or shown in the order of a map: the passes behind several metrics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from explainers import Network
from quality.evidence import Evidence, Need
from quality.passes import parts, predict

Baseline = Literal["mean", "black", "blur"]
BASELINES = ("mean", "black", "blur")

BLUR_SIDE = 11
BLUR_DEVIATION = 5.0


@dataclass(frozen=True)
class Curve:
    """Class probabilities along a path from one image to another.

    Attributes:
        shares: shape (points,), float64: share of the pixels replaced, from 0 to 1.
        classes: shape (rows, k): the class of each row, then the most probable classes on its image.
        probabilities: shape (rows, points, k), float64.
    """

    shares: Tensor
    classes: Tensor
    probabilities: Tensor

    def area(self) -> Tensor:
        """Area under the curve of each row's class, by trapezoids, shape (rows,)."""
        area: Tensor = torch.trapezoid(self.probabilities[:, :, 0], self.shares, dim=1)
        return area.clamp(max=1)  # but for rounding it is at most 1


def deletion_curve(evidence: Evidence, steps: int, baseline: Baseline = "mean", top_k: int = 0) -> Curve:
    """Probabilities while pixels give way to the baseline, the most salient first.

    Costs steps - 1 forward passes for each row, and one for a baseline of one colour (of all images), or one for each
    image. The classes beyond a row's own come along in the same passes.

    Args:
        evidence: with a network.
        steps: number of equal parts of the pixels; at most as many as there are pixels.
        baseline: what the pixels give way to.
        top_k: how many of each image's most probable classes to follow as well.
    """
    return _curve(evidence, steps, baseline, top_k, revealing=False)


def insertion_curve(evidence: Evidence, steps: int, baseline: Baseline = "blur", top_k: int = 0) -> Curve:
    """Probabilities while pixels of the image appear on the baseline, the most salient first; as `deletion_curve`."""
    return _curve(evidence, steps, baseline, top_k, revealing=True)


def removal_predictions(evidence: Evidence, tenths: Sequence[int], most_salient_first: bool) -> Tensor:
    """What the network decides with tenths of the pixels set to black (`verdicts`), shape (rows, len(tenths))."""
    pixels = evidence.size[0] * evidence.size[1]
    counts = [pixels * tenth // 10 for tenth in tenths]
    predictions = torch.empty(len(evidence.pairs), len(counts), dtype=torch.int64)
    ranks = salience_ranks(evidence, most_salient_first)
    for rows, points, logits in _composites(evidence, ranks, counts, _fill(evidence, "black"), revealing=False):
        predictions[rows, points] = evidence.verdicts(logits, rows)
    return predictions


def salience_ranks(evidence: Evidence, most_salient_first: bool = True) -> Tensor:
    """Place of each pixel in the order of n(up(S)), equal ones from the top left on; shape (rows, height, width)."""

    def compute() -> Tensor:
        flat = evidence.pixels.flatten(1)
        order = flat.argsort(dim=1, descending=most_salient_first, stable=True)
        places = torch.arange(flat.shape[1], dtype=torch.int32).expand(order.shape)
        ranks = torch.empty(order.shape, dtype=torch.int32).scatter_(1, order, places)
        return ranks.view(-1, *evidence.size)

    return evidence.remember(("ranks", most_salient_first), compute)


def blurred(images: Tensor, mean: Tensor) -> Tensor:
    """Blur with a Gaussian (11 x 11, standard deviation 5), as if the mean colour lay around the image.

    That is zero padding behind the model's normalisation. The Gaussian is cut off at 11 x 11 and sums to 1.

    Args:
        images: shape (n, 3, height, width), in [0, 1].
        mean: the model's mean colour, shape (3, 1, 1).
    """
    offsets = torch.arange(BLUR_SIDE, dtype=images.dtype, device=images.device) - BLUR_SIDE // 2
    weights = torch.exp(-(offsets**2) / (2 * BLUR_DEVIATION**2))
    weights = weights / weights.sum()
    planes = (images - mean).flatten(0, 1)[:, None]
    planes = torch.nn.functional.conv2d(planes, weights.view(1, 1, -1, 1), padding=(BLUR_SIDE // 2, 0))
    planes = torch.nn.functional.conv2d(planes, weights.view(1, 1, 1, -1), padding=(0, BLUR_SIDE // 2))
    return planes.view_as(images) + mean


def _curve(evidence: Evidence, steps: int, baseline: Baseline, top_k: int, *, revealing: bool) -> Curve:
    pixels = evidence.size[0] * evidence.size[1]
    steps = min(steps, pixels)
    counts = [pixels * step // steps for step in range(steps + 1)]
    classes = _classes(evidence, top_k)
    image_of = evidence.pairs.images
    probabilities = torch.empty(len(classes), steps + 1, classes.shape[1], dtype=torch.float64)
    ends = evidence.scores, _fill_scores(evidence, baseline)
    for point, scores in zip((0, steps), reversed(ends) if revealing else ends, strict=True):
        probabilities[:, point] = evidence.activation.probabilities(scores)[image_of].gather(1, classes)
    fill, ranks = _fill(evidence, baseline), salience_ranks(evidence)
    for rows, points, logits in _composites(evidence, ranks, counts[1:-1], fill, revealing):
        probabilities[rows, points + 1] = evidence.activation.probabilities(logits.double()).gather(1, classes[rows])
    return Curve(torch.tensor(counts, dtype=torch.float64) / pixels, classes, probabilities)


def _classes(evidence: Evidence, top_k: int) -> Tensor:
    best = evidence.scores.argsort(dim=1, descending=True, stable=True)[:, :top_k]
    return torch.cat([evidence.pairs.classes[:, None], best[evidence.pairs.images]], dim=1)


def _fill(evidence: Evidence, baseline: Baseline) -> Tensor:
    """The baseline as pixels: one colour, shape (1, 3, 1, 1), or one picture for each image."""
    mean: Tensor = evidence.given(Need.NETWORK).mean_colour.cpu()
    if baseline == "mean":
        return mean[None]
    if baseline == "black":
        return torch.zeros_like(mean)[None]
    return evidence.remember("blurred", lambda: blurred(evidence.images.cpu(), mean))


def _fill_scores(evidence: Evidence, baseline: Baseline) -> Tensor:
    """Logits of the baseline alone, shape (batch, classes), float64."""

    def compute() -> Tensor:
        fill = _fill(evidence, baseline)
        pictures = fill.expand(-1, -1, *evidence.size)
        scores = torch.cat(list(predict(evidence.given(Need.NETWORK), pictures))).double()
        return scores.expand(len(evidence.images), -1)

    return evidence.remember(("fill", baseline), compute)


def _composites(
    evidence: Evidence, ranks: Tensor, counts: Sequence[int], fill: Tensor, revealing: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Logits of every row with its first `count` pixels changed, for every count: (rows, index of the count, logits).

    `revealing` shows the first pixels of the image on `fill`; otherwise they give way to `fill`.
    """
    plain: Network = evidence.given(Need.NETWORK)
    network = evidence.remember("many passes", plain.for_many_passes)
    image_of = evidence.pairs.images
    device = network.device
    images, ranks, fill = evidence.images.to(device), ranks.to(device), fill.to(device)
    limits = torch.tensor(counts, dtype=torch.int32)
    for jobs in parts(network, torch.arange(len(image_of) * len(counts))):
        rows, points = jobs // len(counts), jobs % len(counts)
        first = ranks[rows] < limits[points].to(device)[:, None, None]
        shown = first if revealing else ~first
        behind = fill if len(fill) == 1 else fill[image_of[rows]]
        pictures = torch.where(shown[:, None], images[image_of[rows]], behind)
        yield rows, points, network.predict(pictures).cpu()
