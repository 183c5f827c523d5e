"""Layer-CAM."""

import dataclasses
from typing import ClassVar

from torch import Tensor

from explainers.layer_method import GradientLayerMethod
from explainers.registry import register


@register
@dataclasses.dataclass(frozen=True)
class LayerCam(GradientLayerMethod):
    r"""Every place of every feature map has its own weight, so that maps of early layers are reliable too.

    S = ReLU(sum_k ReLU(g_k) * A_k), position by position, with g_k = dy_c / dA_k.

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021.

    Costs one forward pass, and for each target one backward pass through what follows the layer.
    """

    name: ClassVar[str] = "layer_cam"
    title: ClassVar[str] = "Layer-CAM"
    reference: ClassVar[str] = "Jiang et al. 2021"
    description: ClassVar[str] = (
        "Feature maps of a layer, each place weighted by how much the class score rises with it; for any layer."
    )

    @staticmethod
    def raw_map(activation: Tensor, gradient: Tensor) -> Tensor:
        """ReLU(sum_k ReLU(g_k) * A_k)."""
        return (gradient.relu() * activation).sum(dim=1).relu()
