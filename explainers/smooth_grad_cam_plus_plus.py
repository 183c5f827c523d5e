"""Smooth Grad-CAM++."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.class_maps import explain_ranks
from explainers.layer_method import LayerMethod, require_gradient, weighted_sum
from explainers.network import Network
from explainers.noise import noisy_versions
from explainers.parameters import parameter
from explainers.progress import Progress
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch


@register
@dataclasses.dataclass(frozen=True)
class SmoothGradCamPlusPlus(LayerMethod, Stepwise):
    r"""Grad-CAM++ with weights that hold for the surroundings of the image, not only for the image itself.

    S = ReLU(sum_k w_k A_k) with w_k = sum_ij alpha_ij ReLU(E[g_ij]), g = dy_c / dA_k and
    alpha_ij = E[g_ij^2] / (2 E[g_ij^2] + (sum_ab E[A_ab]) E[g_ij^3]), 0 / 0 taken as 0. Every mean E is over `samples`
    noisy versions of the image; the A that is weighted in the end is that of the image itself.

    Omeiza et al., "Smooth Grad-CAM++: An Enhanced Inference Level Visualization Technique for Deep Convolutional Neural
    Network Models", 2019.

    Costs 1 + `samples` forward passes, and for each target and sample a backward pass through what follows the layer.
    """

    name: ClassVar[str] = "smooth_grad_cam_plus_plus"
    title: ClassVar[str] = "Smooth Grad-CAM++"
    reference: ClassVar[str] = "Omeiza et al. 2019"
    description: ClassVar[str] = "Grad-CAM++ with weights from the gradients of several noisy versions of the image."

    samples: int = parameter(8, "How many noisy versions of the image to average over.", minimum=1, maximum=256)
    noise: float = parameter(
        0.3, "Standard deviation of the noise, as a share of the range of the image's pixels.", minimum=0, maximum=2
    )
    seed: int = parameter(0, "Seed of the noise.", minimum=0, maximum=2**32 - 1)

    def resolve(self, network: Network) -> Self:
        """As `LayerMethod.resolve`; refuses a layer from which no gradient leads to the scores."""
        resolved = super().resolve(network)
        require_gradient(network, self.target_layer(network))
        return resolved

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every noisy version; stopped early, the means are over those that there are.

        Returns:
            For each image its logits and maps on the layer's grid, in [0, 1]; the raw maps are not negative.

        Raises:
            UnknownLayerError, NotApplicableError, InvalidTargetError, and whatever `watch` raises.
        """
        layer = self.target_layer(network)
        recording = network.record(images, layer)

        def raw_maps(seeds: Tensor) -> Tensor:
            progress = Progress(self.samples, watch)
            weights = self._weights(network, images, layer, seeds, progress).to(recording.activation)
            return torch.stack([weighted_sum(of_rank, recording.activation) for of_rank in weights])

        return explain_ranks(recording.logits, targets, raw_maps)

    def _weights(self, network: Network, images: Tensor, layer: str, seeds: Tensor, progress: Progress) -> Tensor:
        """Shape (ranks, batch, channels). In float64: the third power of a small gradient is no float32."""
        total, first, second, third = (torch.zeros((), dtype=torch.float64, device=network.device) for _ in range(4))
        for version in noisy_versions(images, self.samples, self.noise, self.seed):
            recording = network.record(version, layer)
            total = total + recording.activation.double().sum(dim=(2, 3), keepdim=True)
            gradient = torch.stack([recording.gradient(seed) for seed in seeds]).double()
            first = first + gradient
            second = second + gradient**2
            third = third + gradient**3
            if progress.step():
                break
        total, first, second, third = (summed / progress.done for summed in (total, first, second, third))
        shares = second / (2 * second + total * third)
        return (shares.where(second != 0, second) * first.relu()).sum(dim=(3, 4))
