"""Grad-CAM."""

import dataclasses
from typing import ClassVar

from torch import Tensor

from explainers.layer_method import GradientLayerMethod, weighted_sum
from explainers.registry import register


@register
@dataclasses.dataclass(frozen=True)
class GradCam(GradientLayerMethod):
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

    @staticmethod
    def raw_map(activation: Tensor, gradient: Tensor) -> Tensor:
        """ReLU(sum_k mean_ij(g_k) A_k)."""
        return weighted_sum(gradient.mean(dim=(2, 3)), activation)
