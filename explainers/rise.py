"""RISE."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from explainers.class_maps import explain_ranks
from explainers.maps import constant_along_last
from explainers.network import Network
from explainers.parameters import parameter
from explainers.pixel_method import PixelMethod
from explainers.progress import Progress
from explainers.random_masks import RandomMasks
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch, show


@register
@dataclasses.dataclass(frozen=True)
class Rise(PixelMethod, Stepwise):
    r"""How probable the class is, on average, when a pixel can be seen through a random mask.

    S = 1 / (E[M] N) sum_i p_c(x * M_i) M_i over N random masks M_i in [0, 1] (`explainers.random_masks`: how they are
    drawn) on the pixels x before the model's normalisation, with p_c the probability of the class. E[M] = `keep` is the
    masks' expectation, as in the paper, not their mean at each pixel: S has the noise of that mean too. Where no mask
    changes the probability, S would be nothing else, and is p_c(x) everywhere instead, which is what S tends to.

    Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018. The paper
    takes 4000 masks or more; the noise of a map falls with the square root of their number.

    Costs 1 + `samples` forward passes, however many targets there are. No gradients.
    """

    name: ClassVar[str] = "rise"
    title: ClassVar[str] = "RISE"
    reference: ClassVar[str] = "Petsiuk et al. 2018"
    description: ClassVar[str] = "The class's probability, averaged over random masks that let a pixel be seen."
    requirement: ClassVar[str] = "any network"

    samples: int = parameter(2000, "How many random masks to average over.", minimum=1, maximum=20000)
    cells: int = parameter(7, "Cells along each side of a mask's coarse grid.", minimum=2, maximum=64)
    keep: float = parameter(0.5, "Probability that a cell of the grid can be seen.", minimum=0.01, maximum=0.99)
    seed: int = parameter(0, "Seed of the masks.", minimum=0, maximum=2**32 - 1)

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every pass over some of the masks; stopped early, the mean is over those that there are.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; the raw maps are not negative.

        Raises:
            InvalidTargetError, and whatever `watch` raises.
        """
        logits = network.predict(images)

        def so_far(maps: Callable[[], Tensor]) -> None:
            show(watch, lambda: explain_ranks(logits, targets, lambda _: maps()))

        def raw_maps(seeds: Tensor) -> Tensor:
            with torch.inference_mode():
                probabilities = network.activation.probabilities(logits)
                pixels = images.to(network.device)
                return self._raw_maps(network.for_many_passes(), pixels, probabilities, seeds, watch, so_far)

        return explain_ranks(logits, targets, raw_maps)

    def _raw_maps(
        self,
        network: Network,
        pixels: Tensor,
        unmasked: Tensor,
        seeds: Tensor,
        watch: Watch | None,
        so_far: Callable[[Callable[[], Tensor]], None],
    ) -> Tensor:
        """S of each rank and image, from the probabilities of the images themselves: (ranks, batch, height, width).

        `so_far` gets, before `watch` is told of a step, what makes S of the masks until then.
        """
        masks = RandomMasks.draw(self.samples, self.cells, self.keep, self.seed, network.input_size)
        at_once = max(1, network.images_at_once // len(pixels))
        progress = Progress(math.ceil(self.samples / at_once), watch)
        total = torch.zeros((), dtype=torch.float64, device=network.device)
        scores = [torch.einsum("bc,rbc->rb", unmasked, seeds)[:, :, None]]

        def mean() -> Tensor:
            table = torch.cat(scores, dim=2)
            maps = total / (self.keep * (table.shape[2] - 1))
            return torch.where(constant_along_last(table)[:, :, None, None], table[:, :, :1, None], maps)

        for start in range(0, self.samples, at_once):
            some = masks.make(start, min(start + at_once, self.samples), like=unmasked)
            probabilities = _masked_probabilities(network, pixels, some)
            scores.append(torch.einsum("bnc,rbc->rbn", probabilities, seeds))
            total = total + torch.einsum("rbn,nhw->rbhw", scores[-1], some)
            so_far(mean)
            if progress.step():
                break
        return mean()


def _masked_probabilities(network: Network, pixels: Tensor, masks: Tensor) -> Tensor:
    """Of every class for every image under every mask: shape (batch, masks, classes)."""
    masked = pixels[:, None] * masks[:, None]
    logits = network.predict(masked.flatten(0, 1))
    return network.activation.probabilities(logits).view(len(pixels), len(masks), -1)
