"""Score-CAM."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from explainers.channel_scores import explain_channel_scores
from explainers.layer_method import LayerMethod
from explainers.network import Network
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch


@register
@dataclasses.dataclass(frozen=True)
class ScoreCam(LayerMethod, Stepwise):
    r"""Each feature map counts as much as the class score is high when the network sees only what the map shows.

    S = ReLU(sum_k w_k A_k) with w = softmax_k(f(N(x * n(up(A_k))))_c - f(N(x_b))_c). Feature map A_k is enlarged to the
    image first and then stretched to [0, 1]; it masks the pixels before the model's normalisation N; f gives logits.
    The baseline x_b is the same for every k and so has no influence on the softmax: it is never computed.

    Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR Workshops 2020.

    Costs 1 + K forward passes for K feature maps, however many targets there are. Constant feature maps all mask alike
    (n() makes them zero) and share one pass, which is exact. No gradient is taken of anything.
    """

    name: ClassVar[str] = "score_cam"
    title: ClassVar[str] = "Score-CAM"
    reference: ClassVar[str] = "Wang et al. 2020"
    description: ClassVar[str] = (
        "Feature maps of a layer, weighted by the class score of the image seen through each of them."
    )
    partial: ClassVar[bool] = False

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every pass over some of the masks; there is no map before the last.

        Returns:
            For each image its logits and maps on the layer's grid, in [0, 1]; the raw maps are not negative.

        Raises:
            UnknownLayerError, NotApplicableError, InvalidTargetError, and whatever `watch` raises.
        """
        no_noise = torch.zeros(1, *network.input_size, device=network.device)
        return explain_channel_scores(network, self.target_layer(network), images, targets, no_noise, watch)
