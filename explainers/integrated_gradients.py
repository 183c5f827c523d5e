"""Integrated gradients."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from explainers.class_maps import explain_ranks
from explainers.network import Network
from explainers.parameters import parameter
from explainers.pixel_gradient import gradient_sum
from explainers.pixel_method import PixelGradientMethod
from explainers.progress import Progress
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch


@register
@dataclasses.dataclass(frozen=True)
class IntegratedGradients(PixelGradientMethod, Stepwise):
    r"""Each pixel's share in the difference between the class scores of the image and of a black one.

    S = sum over colour of x * mean_i(dy_c / dx at t_i x), t_i = (i + 1/2) / `steps`: the integral along the straight
    line from black to the image x in [0, 1] pixels, by the midpoint rule. S has either sign, and sums up to
    y_c(x) - y_c(black) as exactly as the integral is computed.

    Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Costs 1 + `steps` forward passes, and for each target `steps` backward passes.
    """

    name: ClassVar[str] = "integrated_gradients"
    title: ClassVar[str] = "Integrated gradients"
    reference: ClassVar[str] = "Sundararajan et al. 2017"
    description: ClassVar[str] = "Each pixel's share in the class score's rise from a black image to this one."
    requirement: ClassVar[str] = "any differentiable network"
    partial: ClassVar[bool] = False

    steps: int = parameter(32, "Points on the line from black to the image.", minimum=1, maximum=1024)

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every point on the line; there is no map before the last.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; raw maps have either sign.

        Raises:
            NotApplicableError, InvalidTargetError, and whatever `watch` raises.
        """
        pixels = images.to(network.device)

        def raw_maps(seeds: Tensor) -> Tensor:
            line = (pixels * ((step + 0.5) / self.steps) for step in range(self.steps))
            total = gradient_sum(network, line, seeds, Progress(self.steps, watch, stops=False))
            return (total / self.steps * pixels).sum(dim=2)

        return explain_ranks(network.predict(images), targets, raw_maps)
