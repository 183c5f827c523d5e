"""Grad-CAM."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.class_maps import explain_recording
from explainers.network import Network
from explainers.parameters import parameter
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets


@register
@dataclasses.dataclass(frozen=True)
class GradCam:
    r"""Gradient-weighted class activation map.

    S = ReLU(sum_k w_k A_k) with w_k = mean_ij(dy_c / dA_k): each feature map A_k of the layer counts as much as the
    logit y_c rises with it. For transformers the map is made of the patch tokens.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.

    Costs one forward pass, and for each target one backward pass through what follows the layer.
    """

    name: ClassVar[str] = "grad_cam"
    title: ClassVar[str] = "Grad-CAM"
    reference: ClassVar[str] = "Selvaraju et al. 2017"
    description: ClassVar[str] = (
        "Feature maps of a layer, weighted by how much the class score rises with each of them on average."
    )
    requirement: ClassVar[str] = "a layer with a spatial map: convolutional feature maps, or the patch tokens of a ViT"

    layer: str | None = parameter(
        None, "Module path of the layer to explain; without it, the last feature map or the last block's norm."
    )

    def resolve(self, network: Network) -> Self:
        """The method with its layer filled in.

        Raises:
            UnknownLayerError: the network has no such layer with a spatial map.
            NotApplicableError: no layer is given and the network has no spatial map.
        """
        return dataclasses.replace(self, layer=self.target_layer(network))

    def target_layer(self, network: Network) -> str:
        """Path of the module whose output is explained; raises as `resolve` does."""
        return network.layer(self.layer).path

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Returns:
            For each image its logits and maps on the layer's grid, in [0, 1]; the raw maps are not negative.

        Raises:
            UnknownLayerError, NotApplicableError, InvalidTargetError.
        """
        recording = network.record(images, self.target_layer(network))
        activation = recording.activation

        def raw_map(seed: Tensor) -> Tensor:
            weights = recording.gradient(seed).mean(dim=(2, 3))
            return torch.einsum("bk,bkhw->bhw", weights, activation).relu()

        return explain_recording(recording, targets, raw_map)
