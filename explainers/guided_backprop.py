"""Guided backpropagation."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from torch import Tensor

from explainers.class_maps import explain_logits
from explainers.guided_gradient import GuidedGradient, require_rectifiers
from explainers.network import Network
from explainers.pixel_gradient import PixelGradient, largest_over_colours
from explainers.pixel_method import PixelMethod
from explainers.rectifiers import VisibleRectifiers
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets


@register
@dataclasses.dataclass(frozen=True)
class GuidedBackprop(PixelMethod):
    r"""The gradient of the class score, where every ReLU hands on only positive values.

    S = max over colour of abs(R_0): R starts as the gradient of the logit y_c with respect to itself and goes back as
    the ordinary gradient, but for R_in = 1[z>0] 1[R_out>0] R_out at every ReLU with input z (at every ReLU6,
    1[0<z<6] 1[R_out>0] R_out). R_0 is with respect to the pixels in [0, 1], before the model's own normalisation.

    Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for Simplicity: The All Convolutional Net", ICLR Workshop
    2015. Other nonlinearities (leaky ReLU, GELU, hard swish) keep their ordinary gradient.

    Costs one forward pass, and for each target one backward pass.
    """

    name: ClassVar[str] = "guided_backprop"
    title: ClassVar[str] = "Guided backpropagation"
    reference: ClassVar[str] = "Springenberg et al. 2015"
    description: ClassVar[str] = "The gradient of the class score, of which every ReLU hands on only what is positive."
    requirement: ClassVar[str] = "a differentiable network with ReLUs"

    def resolve(self, network: Network) -> Self:
        """The method itself.

        Raises:
            NotApplicableError: no ReLU leads from the pixels to the scores.
        """
        require_rectifiers(network)
        return self

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
        require_rectifiers(network)
        with VisibleRectifiers():
            ordinary = PixelGradient(network, images)
        guided = GuidedGradient(ordinary.graph_logits, ordinary.pixels)
        return explain_logits(ordinary.logits, targets, lambda seed: largest_over_colours(guided(seed)))
