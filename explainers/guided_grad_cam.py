"""Guided Grad-CAM."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from torch import Tensor

from explainers.class_maps import explain_recording
from explainers.grad_cam import GradCam
from explainers.guided_gradient import GuidedGradient, require_rectifiers
from explainers.layer_method import LayerMethod
from explainers.maps import upsample
from explainers.network import Network
from explainers.pixel_gradient import differentiable_pixels, largest_over_colours
from explainers.rectifiers import VisibleRectifiers
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets


@register
@dataclasses.dataclass(frozen=True)
class GuidedGradCam(LayerMethod):
    r"""Guided backpropagation where Grad-CAM sees the class: fine detail, but only of what speaks for it.

    S = max over colour of abs(R_0 up(M)), with R_0 the guided gradient of the logit y_c with respect to the pixels (see
    guided_backprop), M = ReLU(sum_k w_k A_k) the map of Grad-CAM by the ordinary gradient, and up() bilinear. The map
    has the size of the network's input.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.

    Costs one forward pass, and for each target two backward passes: a guided one through the network, and an ordinary
    one through what follows the layer.
    """

    name: ClassVar[str] = "guided_grad_cam"
    title: ClassVar[str] = "Guided Grad-CAM"
    reference: ClassVar[str] = "Selvaraju et al. 2017"
    description: ClassVar[str] = "Guided backpropagation, times the map of Grad-CAM enlarged to the image."
    requirement: ClassVar[str] = "a differentiable network with ReLUs and a layer with a spatial map"

    def resolve(self, network: Network) -> Self:
        """The method with its layer filled in.

        Raises:
            UnknownLayerError: the network has no such layer with a spatial map.
            NotApplicableError: no ReLU leads from the pixels to the scores, or no layer is given and the network has no
                spatial map.
        """
        require_rectifiers(network)
        return super().resolve(network)

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; the raw maps are not negative.

        Raises:
            UnknownLayerError, NotApplicableError, InvalidTargetError.
        """
        require_rectifiers(network)
        pixels = differentiable_pixels(network, images)
        with VisibleRectifiers():
            recording = network.record(pixels, self.target_layer(network))
        activation = recording.activation
        guided = GuidedGradient(recording.graph_logits, pixels)

        def raw_map(seed: Tensor) -> Tensor:
            cam = GradCam.raw_map(activation, recording.gradient(seed))
            return largest_over_colours(guided(seed) * upsample(cam, network.input_size)[:, None])

        return explain_recording(recording, targets, raw_map)
