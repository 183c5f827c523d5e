"""SS-CAM."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from explainers.channel_scores import explain_channel_scores
from explainers.layer_method import LayerMethod
from explainers.network import Network
from explainers.noise import gaussian
from explainers.parameters import parameter
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch


@register
@dataclasses.dataclass(frozen=True)
class SsCam(LayerMethod, Stepwise):
    r"""Score-CAM with scores that are averaged over noise on each mask.

    S = ReLU(sum_k w_k A_k) with w = softmax_k(mean_i f(N(x * (n(up(A_k)) + e_i)))_c). The noise e_i is added to the
    normalised mask and the result is not cut off; it is the same for every k, so that differences between channels are
    due to the channels. N is the model's own normalisation, and f gives logits.

    Wang, Naidu, Michael, Kundu, "SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization", 2020, the variant
    that smooths the feature maps; 10 samples and a deviation of 2 are its settings.

    Costs 1 + `samples` K forward passes for K feature maps, however many targets there are; constant feature maps share
    theirs, which is exact.
    """

    name: ClassVar[str] = "ss_cam"
    title: ClassVar[str] = "SS-CAM"
    reference: ClassVar[str] = "Wang, Naidu et al. 2020"
    description: ClassVar[str] = "Score-CAM with scores that are averaged over noise on each mask."
    partial: ClassVar[bool] = False

    samples: int = parameter(10, "How many noisy versions of each mask to average over.", minimum=1, maximum=256)
    noise: float = parameter(2.0, "Standard deviation of the noise on a mask in [0, 1].", minimum=0, maximum=10)
    seed: int = parameter(0, "Seed of the noise.", minimum=0, maximum=2**32 - 1)

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
        noise = (self.noise * gaussian((self.samples, *network.input_size), self.seed)).to(network.device)
        return explain_channel_scores(network, self.target_layer(network), images, targets, noise, watch)
