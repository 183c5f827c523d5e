"""CAM."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.class_maps import explain_recording
from explainers.errors import NotApplicableError
from explainers.linear_head import LinearHead
from explainers.network import Network
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets


@register
@dataclasses.dataclass(frozen=True)
class Cam:
    r"""Class activation map.

    S = sum_k w_k^c A_k, with w^c the row of class c in the linear classifier that follows the global average pooling of
    the feature maps A_k. The mean of S is the class score without its bias, so S says exactly where the score comes
    from. It has no ReLU: places that speak against the class are its lowest values.

    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.

    Costs one forward pass.
    """

    name: ClassVar[str] = "cam"
    title: ClassVar[str] = "CAM"
    reference: ClassVar[str] = "Zhou et al. 2016"
    description: ClassVar[str] = "Last feature maps, weighted by the linear classifier's row of the class."
    requirement: ClassVar[str] = "global average pooling and one linear layer behind the last feature map"

    def resolve(self, network: Network) -> Self:
        """The method itself: it has no parameters.

        Raises:
            NotApplicableError: the network does not end in global average pooling and one linear layer.
        """
        _head(network)
        return self

    def target_layer(self, network: Network) -> str:
        """Path of the module whose output is pooled and classified; raises as `resolve` does."""
        return _head(network).layer

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Returns:
            For each image its logits and maps on the last feature map's grid, in [0, 1]; raw maps have either sign.

        Raises:
            NotApplicableError, InvalidTargetError.
        """
        head = _head(network)
        recording = network.record(images, head.layer, gradients=False)
        activation = recording.activation
        weight = head.weight.to(activation.dtype)

        def raw_map(seed: Tensor) -> Tensor:
            weights = seed.to(weight.dtype) @ weight  # a one-hot row picks the class's
            return torch.einsum("bk,bkhw->bhw", weights, activation)

        return explain_recording(recording, targets, raw_map)


def _head(network: Network) -> LinearHead:
    if network.linear_head is None:
        raise NotApplicableError(f"CAM needs {Cam.requirement}")
    return network.linear_head
