"""Layer-CAM."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.class_maps import explain_recording
from explainers.errors import InvalidParameterError, UnknownLayerError
from explainers.layer_method import GradientLayerMethod, require_gradient
from explainers.maps import upsample
from explainers.network import Network
from explainers.parameters import parameter
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets

GAMMA = 2.0  # the paper's: tanh(2) = 0.96, so that a layer's strongest place stays almost what it was
MOST_FURTHER_LAYERS = 8


@register
@dataclasses.dataclass(frozen=True)
class LayerCam(GradientLayerMethod):
    r"""Every place of every feature map has its own weight, so that maps of early layers are reliable too.

    S = ReLU(sum_k ReLU(g_k) * A_k), position by position, with g_k = dy_c / dA_k.

    With further layers the maps are fused: max over the layers of up(tanh(gamma S / max S)), gamma = 2, where up()
    enlarges bilinearly to the grid of the largest layer. The raw values are those of the fused map, at most tanh(2).

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021. The paper
    scales by tanh the maps of the early stages only. Here every layer's map is scaled, because networks have no stages
    in common: a deep layer's map is flatter near its maximum than in the paper, and orders its places the same.

    Costs one forward pass, and for each target one backward pass through what follows the (earliest) layer.
    """

    name: ClassVar[str] = "layer_cam"
    title: ClassVar[str] = "Layer-CAM"
    reference: ClassVar[str] = "Jiang et al. 2021"
    description: ClassVar[str] = (
        "Feature maps of a layer, each place weighted by how much the class score rises with it; for any layer, or for"
        " several together."
    )

    further_layers: tuple[str, ...] = parameter(
        (), "More layers whose maps are fused with the first one's, each another one.", maximum=MOST_FURTHER_LAYERS
    )

    def resolve(self, network: Network) -> Self:
        """The method with the paths of its layers filled in.

        Raises:
            UnknownLayerError: the network has no such layer with a spatial map.
            InvalidParameterError: a layer is named twice.
            NotApplicableError: no layer is given and the network has no spatial map, or no gradient leads to a layer.
        """
        layer, *further = self._layers(network)
        require_gradient(network, layer, *further)
        return dataclasses.replace(self, layer=layer, further_layers=tuple(further))

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """As `GradientLayerMethod.explain`; with further layers, on the grid of the largest of them all."""
        layers = self._layers(network)
        if len(layers) == 1:
            return super().explain(network, images, targets)
        recording = network.record(images, *layers)
        activations = recording.activations()

        def fused(seed: Tensor) -> Tensor:
            gradients = recording.gradients(seed)
            return fuse([self.raw_map(activations[layer], gradients[layer]) for layer in layers])

        return explain_recording(recording, targets, fused)

    def _layers(self, network: Network) -> list[str]:
        """Paths of all layers, the target layer first; raises as `resolve` does."""
        layers = [self.target_layer(network)]
        for path in self.further_layers:
            try:
                layers.append(network.layer(path).path)
            except UnknownLayerError as error:
                raise UnknownLayerError("further_layers", str(error)) from None
        if len(set(layers)) < len(layers):
            raise InvalidParameterError("further_layers", "further_layers must not repeat a layer")
        return layers

    @staticmethod
    def raw_map(activation: Tensor, gradient: Tensor) -> Tensor:
        """ReLU(sum_k ReLU(g_k) * A_k)."""
        return (gradient.relu() * activation).sum(dim=1).relu()


def fuse(maps: Sequence[Tensor]) -> Tensor:
    """The largest of several maps at each place, each brought to [0, tanh(gamma)] by its own maximum.

    Args:
        maps: each of shape (batch, h, w), not negative; the sizes may differ from map to map.

    Returns:
        Shape (batch, height, width): the size of the map with the most cells. A map of zeros adds nothing; one that is
        not finite leaves the result so.
    """
    height, width = max((each.shape[1:] for each in maps), key=lambda size: size[0] * size[1])
    return torch.stack([upsample(_scaled(each), (height, width)) for each in maps]).amax(dim=0)


def _scaled(raw: Tensor) -> Tensor:
    maximum = raw.amax(dim=(1, 2), keepdim=True)
    return (GAMMA * raw / maximum.where(maximum != 0, 1)).tanh()
