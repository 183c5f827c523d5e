"""SmoothGrad."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from explainers.class_maps import explain_ranks
from explainers.network import Network
from explainers.noise import noisy_versions
from explainers.parameters import parameter
from explainers.pixel_gradient import gradient_sum, largest_over_colours
from explainers.pixel_method import PixelGradientMethod
from explainers.progress import Progress
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch


@register
@dataclasses.dataclass(frozen=True)
class SmoothGrad(PixelGradientMethod, Stepwise):
    r"""The gradient, averaged over noisy versions of the image, so that its rapid changes cancel.

    S = max over colour of abs(mean_i dy_c / dx at x + e_i), with y_c the logit and x the pixels in [0, 1]. The standard
    deviation of e_i is `noise` times the range of the image's pixels; pixels are not cut off at 0 and 1.

    Smilkov et al., "SmoothGrad: Removing Noise by Adding Noise", ICML Workshop 2017. The mean is of signed gradients.

    Costs 1 + `samples` forward passes, and for each target `samples` backward passes.
    """

    name: ClassVar[str] = "smooth_grad"
    title: ClassVar[str] = "SmoothGrad"
    reference: ClassVar[str] = "Smilkov et al. 2017"
    description: ClassVar[str] = "How strongly the class score reacts to each pixel, averaged over noisy versions."
    requirement: ClassVar[str] = "any differentiable network"

    samples: int = parameter(25, "How many noisy versions of the image to average over.", minimum=1, maximum=256)
    noise: float = parameter(
        0.15, "Standard deviation of the noise, as a share of the range of the image's pixels.", minimum=0, maximum=2
    )
    seed: int = parameter(0, "Seed of the noise.", minimum=0, maximum=2**32 - 1)

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every noisy version; stopped early, the mean is over those that there are.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; the raw maps are not negative.

        Raises:
            NotApplicableError, InvalidTargetError, and whatever `watch` raises.
        """

        def raw_maps(seeds: Tensor) -> Tensor:
            progress = Progress(self.samples, watch)
            versions = noisy_versions(images.to(network.device), self.samples, self.noise, self.seed)
            total = gradient_sum(network, versions, seeds, progress)
            return largest_over_colours(total / progress.done)

        return explain_ranks(network.predict(images), targets, raw_maps)
