"""What LIME and KernelSHAP share: the scores of an image with some superpixels hidden, and a linear model of them."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from explainers.class_maps import explain_ranks
from explainers.maps import constant_along_last
from explainers.network import Network
from explainers.parameters import parameter
from explainers.pixel_method import PixelMethod
from explainers.progress import Progress
from explainers.result import ImageResult
from explainers.superpixels import BASELINES, Superpixels
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch


@dataclasses.dataclass(frozen=True)
class Design:
    """Which superpixels to show, and what the score then counts.

    Attributes:
        coalitions: shape (n, superpixels), bool.
        weights: shape (n,), float64.
    """

    coalitions: Tensor
    weights: Tensor

    def first(self, count: int) -> "Design":
        """The first rows."""
        return Design(self.coalitions[:count], self.weights[:count])


@dataclasses.dataclass(frozen=True)
class SuperpixelMethod(PixelMethod, Stepwise, abc.ABC):
    """A method that explains the probabilities by a linear model of which superpixels can be seen.

    Hidden superpixels are grey unless asked otherwise. Their own mean colour hides little where superpixels follow the
    edges of things, as they should: a dark stroke becomes a dark stroke (docs/adr/0004 has figures).

    Every pixel of a superpixel has that superpixel's coefficient. Where no coalition changes the probability, the
    coefficients are zero.
    """

    requirement: ClassVar[str] = "any network"

    samples: int = parameter(1000, "How many coalitions of superpixels to try.", minimum=1, maximum=20000)
    segments: int = parameter(50, "About how many superpixels to divide the image into.", minimum=2, maximum=200)
    baseline: str = parameter(
        "grey",
        "What stands in a hidden superpixel: grey (0.5), black, or superpixel_mean (its own mean colour).",
        choices=BASELINES,
    )
    seed: int = parameter(0, "Seed of the coalitions.", minimum=0, maximum=2**32 - 1)

    @abc.abstractmethod
    def design(self, count: int) -> Design:
        """The coalitions to try with `count` superpixels; they depend on nothing but this and the parameters."""

    @abc.abstractmethod
    def solve(self, design: Design, scores: Tensor) -> Tensor:
        """The coefficients of the superpixels.

        Args:
            design: what was tried: what `design` gave, or the first two of its rows or more.
            scores: probabilities of some classes, shape (classes, n), float64.

        Returns:
            Shape (classes, superpixels), float64.
        """

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every pass over some of the coalitions; stopped early, the model is of those that there
                are.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; raw maps have either sign.

        Raises:
            InvalidTargetError, and whatever `watch` raises.
        """

        def raw_maps(seeds: Tensor) -> Tensor:
            pictures = [Superpixels.of(image, self.segments, self.baseline) for image in images.to(network.device)]
            designs = [self.design(picture.count) for picture in pictures]
            with torch.inference_mode():
                scores = _scores(network.for_many_passes(), pictures, designs, seeds, watch)
            maps = [
                self._coefficients(design.first(table.shape[1]), table)[:, picture.labels.cpu()]
                for design, table, picture in zip(designs, scores, pictures, strict=True)
            ]
            return torch.stack(maps, dim=1)

        return explain_ranks(network.predict(images), targets, raw_maps)

    def _coefficients(self, design: Design, scores: Tensor) -> Tensor:
        coefficients = self.solve(design, scores)
        return coefficients.masked_fill(constant_along_last(scores)[:, None], 0)


def _scores(
    network: Network, pictures: list[Superpixels], designs: list[Design], seeds: Tensor, watch: Watch | None
) -> list[Tensor]:
    """For each image its targets' probabilities, shape (ranks, coalitions), float64 on the CPU."""
    most = max(len(design.coalitions) for design in designs)
    at_once = max(2, network.images_at_once // len(pictures))  # what `solve` needs at least
    progress = Progress(math.ceil(most / at_once), watch)
    parts: list[list[Tensor]] = [[] for _ in pictures]
    for start in range(0, most, at_once):
        coalitions = [design.coalitions[start : start + at_once] for design in designs]
        shown = torch.cat([picture.show(some) for picture, some in zip(pictures, coalitions, strict=True)])
        probabilities = network.activation.probabilities(network.predict(shown))
        for image, of_image in enumerate(torch.split(probabilities, [len(some) for some in coalitions])):
            parts[image].append(seeds[:, image] @ of_image.T)
        if progress.step():
            break
    return [torch.cat(of_image, dim=1).double().cpu() for of_image in parts]
