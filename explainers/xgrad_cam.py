"""XGrad-CAM."""

import dataclasses
from typing import ClassVar

from torch import Tensor

from explainers.layer_method import GradientLayerMethod, weighted_sum
from explainers.registry import register


@register
@dataclasses.dataclass(frozen=True)
class XGradCam(GradientLayerMethod):
    r"""Axiom-based Grad-CAM: a place of a feature map counts as much as the map is active there.

    S = ReLU(sum_k w_k A_k) with w_k = sum_ij (A_ij / sum_ab A_ab) g_ij and g = dy_c / dA_k. The weights come closest to
    two axioms: removing a feature map changes the score by its contribution, and the contributions add up to the score.

    A feature map whose sum is zero gets no weight: behind a ReLU it is zero everywhere and adds nothing anyway.
    Activations of either sign may cancel in the sum; then a weight can be large, as the definition has it.

    Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC 2020.

    Costs one forward pass, and for each target one backward pass through what follows the layer.
    """

    name: ClassVar[str] = "xgrad_cam"
    title: ClassVar[str] = "XGrad-CAM"
    reference: ClassVar[str] = "Fu et al. 2020"
    description: ClassVar[str] = (
        "Feature maps of a layer, weighted by how much the class score rises where each of them is active."
    )

    @staticmethod
    def raw_map(activation: Tensor, gradient: Tensor) -> Tensor:
        """ReLU(sum_k w_k A_k) with w_k = sum_ij A_ij g_ij / sum_ab A_ab."""
        total = activation.sum(dim=(2, 3))
        weights = (activation * gradient).sum(dim=(2, 3)) / total
        return weighted_sum(weights.masked_fill(total == 0, 0), activation)
