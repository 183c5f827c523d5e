"""Gradient: vanilla saliency."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from explainers.class_maps import explain_logits
from explainers.network import Network
from explainers.pixel_gradient import PixelGradient, largest_over_colours
from explainers.pixel_method import PixelGradientMethod
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets


@register
@dataclasses.dataclass(frozen=True)
class Gradient(PixelGradientMethod):
    r"""How strongly the class score reacts to each pixel.

    S = max over colour of abs(dy_c / dx), with y_c the logit and x the pixels in [0, 1], before the model's own
    normalisation.

    Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models and
    Saliency Maps", ICLR Workshop 2014.

    Costs one forward pass, and for each target one backward pass.
    """

    name: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Gradient"
    reference: ClassVar[str] = "Simonyan et al. 2014"
    description: ClassVar[str] = "How strongly the class score reacts to each pixel."
    requirement: ClassVar[str] = "any differentiable network"

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; the raw maps are not negative.

        Raises:
            NotApplicableError, InvalidTargetError.
        """
        gradient = PixelGradient(network, images)
        return explain_logits(gradient.logits, targets, lambda seed: largest_over_colours(gradient(seed)))
