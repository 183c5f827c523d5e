"""What the methods that explain one layer share: which layer, and the way from its gradient to a map."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.abilities import is_differentiable_from
from explainers.class_maps import explain_recording
from explainers.errors import NotApplicableError
from explainers.network import Network
from explainers.parameters import parameter
from explainers.result import ImageResult
from explainers.targets import Targets


@dataclasses.dataclass(frozen=True)
class LayerMethod:
    """A method whose map has the grid of one layer: of convolutional feature maps, or of a transformer's patches."""

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


@dataclasses.dataclass(frozen=True)
class GradientLayerMethod(LayerMethod, abc.ABC):
    """A method whose map follows from the activation A of a layer and the gradient g = dy_c / dA.

    Costs one forward pass, and for each target one backward pass through what follows the layer.
    """

    def resolve(self, network: Network) -> Self:
        """As `LayerMethod.resolve`; refuses a layer from which no gradient leads to the scores."""
        resolved = super().resolve(network)
        require_gradient(network, self.target_layer(network))
        return resolved

    @staticmethod
    @abc.abstractmethod
    def raw_map(activation: Tensor, gradient: Tensor) -> Tensor:
        """A and g, each of shape (batch, channels, h, w), to raw maps of shape (batch, h, w)."""

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
        return explain_recording(
            recording, targets, lambda seed: self.raw_map(activation, recording.gradient(seed))
        )


def require_gradient(network: Network, *layers: str) -> None:
    """Refuse layers with respect to which the scores have no gradient.

    Raises:
        NotApplicableError: they have none.
    """
    if not all(is_differentiable_from(network, layer) for layer in layers):
        raise NotApplicableError("the scores don't depend on the layer in a differentiable way")


def weighted_sum(weights: Tensor, activation: Tensor) -> Tensor:
    """ReLU(sum_k w_k A_k).

    Args:
        weights: shape (batch, channels).
        activation: shape (batch, channels, h, w).

    Returns:
        Shape (batch, h, w).
    """
    return torch.einsum("bk,bkhw->bhw", weights, activation).relu()
