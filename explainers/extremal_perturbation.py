"""Extremal perturbation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from explainers.network import Network
from explainers.pairs import Pairs, few_at_once
from explainers.parameters import parameter
from explainers.perturbation import Pyramid, blurred, faded
from explainers.pixel_method import PixelGradientMethod
from explainers.registry import register
from explainers.result import ImageResult
from explainers.rows import batch_sizes
from explainers.smooth_mask import SmoothMask, area_target
from explainers.targets import Targets, resolve
from explainers.watch import Stepwise, Watch, show

PERTURBATIONS = {"blur": blurred, "fade": faded}
START, LEARNING_RATE, MOMENTUM = 0.9, 0.01, 0.9
FIRST_WEIGHT, LAST_WEIGHT = 300.0, 4800.0


@register
@dataclasses.dataclass(frozen=True)
class ExtremalPerturbation(PixelGradientMethod, Stepwise):
    r"""The part of the image, of a given area and with smooth edges, that makes the class score as high as it gets.

    S = m* = argmax_m f(N(m (x) x))_c - lambda mean((vecsort(m) - r_a)^2). m (x) x shows the image x where the mask m
    is 1, and where it is 0 a blurred image (`blur`: the more of m is missing the stronger) or black (`fade`); it works
    on the pixels, before the model's normalisation N. f gives logits. r_a is the sorted mask of area a: zeros, then a
    share a of ones. m is a smooth maximum of spots of a fixed size (`explainers.smooth_mask`), so it can't fall apart
    into pixels; one spot takes about 3 % of a square image, and a smaller area is met by weaker spots.

    Fong, Patrick, Vedaldi, "Understanding Deep Networks via Extremal Perturbations and Smooth Masks", ICCV 2019,
    arXiv 1910.08485. One area for a request; the paper adds up the masks of several.

    Gradient ascent with momentum 0.9 and learning rate 0.01 from a mask of 0.9 everywhere; lambda grows from 300 to
    4800, each step by the same factor, but the first step leaves the area out (`area_weight`). The mask of the last
    step is answered: a local optimum. Where the score does not depend on the mask at the start, nothing is tried, and
    the map is constant: area alone would make one out of nothing.

    Costs a forward pass and, for each target and step, a forward pass and its gradient with respect to the image; on a
    CPU also the memory of the convolutions' kernels once more.
    """

    name: ClassVar[str] = "extremal_perturbation"
    title: ClassVar[str] = "Extremal perturbation"
    reference: ClassVar[str] = "Fong et al. 2019"
    description: ClassVar[str] = "The smooth part of the image, of a given area, that makes the class score highest."
    requirement: ClassVar[str] = "any differentiable network"

    area: float = parameter(0.1, "Share of the image that the mask leaves visible.", minimum=0.01, maximum=0.99)
    steps: int = parameter(800, "Steps of the optimiser.", minimum=1, maximum=2000)
    perturbation: str = parameter(
        "blur", "What is in place of the rest of the image: blur or fade (black).", choices=tuple(PERTURBATIONS)
    )

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every step, and may stop the method early: then the masks are answered as they are. The
                objective is taken at the last step's lambda, so that steps compare.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; the raw maps are the masks.

        Raises:
            NotApplicableError, InvalidTargetError, and whatever `watch` raises.
        """
        self.resolve(network)
        with torch.inference_mode(False), torch.no_grad():
            logits = few_at_once(network, network.logits, images)
            pairs = Pairs.of(resolve(targets, logits.float().cpu()), network.device)
            if not len(pairs):
                return pairs.results(logits.float().cpu(), torch.empty(0, 1, 1))
            precision = torch.promote_types(logits.dtype, torch.float32)
            pixels = images.to(device=network.device, dtype=precision, copy=True)
            objective = Objective(network, Pyramid(PERTURBATIONS[self.perturbation](pixels)), pairs, self.area)

            def results(masks: Tensor) -> list[ImageResult]:
                return pairs.results(logits.float().cpu(), masks)

            def so_far(masks: Callable[[], Tensor]) -> None:
                show(watch, lambda: results(masks()))

            return results(self._ascend(objective, watch, so_far))

    def _ascend(
        self, objective: "Objective", watch: Watch | None, so_far: Callable[[Callable[[], Tensor]], None]
    ) -> Tensor:
        """The masks that the steps end at, shape (rows, height, width)."""
        values = objective.start()
        velocity = torch.zeros_like(values)
        best = values.new_full((len(values),), -torch.inf)
        says = torch.ones_like(best)  # 1 where a mask says something, 0 where it says nothing, else not-a-number
        rows = torch.arange(len(values), device=values.device)

        def masks() -> Tensor:
            return objective.masks(values) * says[:, None, None]

        for done in range(self.steps):
            value, gradient, indifferent = objective(values[rows], rows, area_weight(done, self.steps))
            velocity[rows] = MOMENTUM * velocity[rows] + gradient
            finite = value.isfinite() & velocity[rows].flatten(1).isfinite().all(dim=1)
            best[rows] = torch.fmax(best[rows], value)
            says[rows[~finite]] = torch.nan
            if done == 0:
                says[rows[finite & indifferent]] = 0
            rows = rows[says[rows] == 1]
            if not len(rows):
                break
            values[rows] = (values[rows] + LEARNING_RATE * velocity[rows]).clamp(0, 1)
            so_far(masks)
            if watch is not None and watch.step(done + 1, self.steps, float(best[best.isfinite()].mean())):
                break
        return masks()


def area_weight(step: int, steps: int) -> float:
    """lambda at a step: from 300 to 4800, each time by the same factor.

    The first step climbs the score alone: a mask that is constant has no order that the area could keep, and rounding
    errors would decide which part of the image it takes away first.
    """
    return FIRST_WEIGHT * (LAST_WEIGHT / FIRST_WEIGHT) ** (step / steps) if step else 0.0


class Objective:
    """f(N(m (x) x))_c - lambda mean((vecsort(m) - r_a)^2), for any rows of (image, target)."""

    def __init__(self, network: Network, pyramid: Pyramid, pairs: Pairs, area: float) -> None:
        """Keep what it needs; `pyramid` holds every image."""
        self._network = network.for_many_passes(rows_alike=True)
        self._pyramid = pyramid
        self._pairs = pairs
        self._area = area
        self._smooth = SmoothMask(network.input_size, pyramid.like)

    def start(self) -> Tensor:
        """The same value everywhere on the grid, for every row: shape (rows, *grid)."""
        return self._pyramid.like.new_full((len(self._pairs), *self._smooth.cells), START)

    def masks(self, values: Tensor) -> Tensor:
        """m in pixels, shape (n, height, width), for values of shape (n, *grid)."""
        return self._enlarged(self._spread(values))

    def __call__(self, values: Tensor, rows: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor]:
        """For rows, shape (n,), with values of shape (n, *grid), and lambda = `weight` in the gradient.

        Returns:
            The objective with the last step's lambda, shape (n,); its gradient with respect to the values, like them;
            and whether the score has no gradient with respect to the mask, shape (n,).
        """
        sizes = batch_sizes(self._network, len(rows))
        parts = zip(torch.split(values, sizes), torch.split(rows, sizes), strict=True)
        found = [self._part(some, of_rows, weight) for some, of_rows in parts]
        value, gradient, indifferent = (torch.cat(each) for each in zip(*found, strict=True))
        return value, gradient, indifferent

    def _part(self, values: Tensor, rows: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor]:
        images, classes = self._pairs.images[rows], self._pairs.classes[rows]
        with torch.enable_grad():
            values = values.detach().requires_grad_()
            mask = self._spread(values)
            seen = mask.detach().requires_grad_()
            logits = self._network.logits(self._pyramid(images, self._enlarged(seen)))
            scores = logits.gather(1, classes[:, None])[:, 0]
            (of_score,) = torch.autograd.grad(scores.sum(), seen)
            excess = (mask - area_target(mask, self._area)).detach()
            ascent = of_score - (2 * weight / excess[0].numel()) * excess
            (gradient,) = torch.autograd.grad(mask, values, ascent)
        value = scores.detach().to(mask) - LAST_WEIGHT * (excess**2).mean(dim=(1, 2))
        return value, gradient, ~of_score.flatten(1).any(dim=1)

    def _spread(self, values: Tensor) -> Tensor:
        return few_at_once(self._network, self._smooth.spread, values)

    def _enlarged(self, mask: Tensor) -> Tensor:
        return few_at_once(self._network, self._smooth.enlarge, mask)
