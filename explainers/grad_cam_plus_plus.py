"""Grad-CAM++."""

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from explainers.layer_method import GradientLayerMethod, weighted_sum
from explainers.registry import register


@register
@dataclasses.dataclass(frozen=True)
class GradCamPlusPlus(GradientLayerMethod):
    r"""Grad-CAM with weights that give every place where the score rises its full share.

    S = ReLU(sum_k w_k A_k) with w_k = sum_ij alpha_ij ReLU(g_ij), g = dy_c / dA_k and
    alpha_ij = g_ij^2 / (2 g_ij^2 + (sum_ab A_ab) g_ij^3), taken as 0 where g_ij = 0 (there 0 / 0 meets ReLU(g) = 0).

    Where g_ij is not zero, alpha_ij is 1 / (2 + (sum_ab A_ab) g_ij). So no epsilon is needed, as other libraries add to
    the denominator: theirs decides the map where gradients are small. The sum can only be negative, and the denominator
    only reach zero, for activations that are not behind a ReLU; a map that is not finite for it counts as degenerate.

    Chattopadhay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks",
    WACV 2018, with y_c for the score whose exponential has these derivatives: its common factor exp(y_c) vanishes in
    the normalised map.

    Costs one forward pass, and for each target one backward pass through what follows the layer.
    """

    name: ClassVar[str] = "grad_cam_plus_plus"
    title: ClassVar[str] = "Grad-CAM++"
    reference: ClassVar[str] = "Chattopadhay et al. 2018"
    description: ClassVar[str] = (
        "Grad-CAM with weights that only count where the class score rises, and that do not favour large objects."
    )

    @staticmethod
    def raw_map(activation: Tensor, gradient: Tensor) -> Tensor:
        """ReLU(sum_k w_k A_k) with w_k = sum_ij alpha_ij ReLU(g_ij)."""
        total = activation.sum(dim=(2, 3), keepdim=True)
        rise = gradient.relu()
        shares = torch.where(rise > 0, rise / (2 + total * rise), rise)  # the last keeps not-a-number
        return weighted_sum(shares.sum(dim=(2, 3)), activation)
