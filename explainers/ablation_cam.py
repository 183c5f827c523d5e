"""Ablation-CAM."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from explainers.abilities import head_broadcasts
from explainers.class_maps import explain_recording
from explainers.layer_method import LayerMethod, weighted_sum
from explainers.network import Network
from explainers.progress import Progress
from explainers.recorder import Recording
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch

ABLATIONS_AT_ONCE = 32

Drops = Callable[[Tensor], Tensor]
"""Takes a seed, shape (batch, classes), to y - y_k: how far the target's logit drops without each feature map."""


@register
@dataclasses.dataclass(frozen=True)
class AblationCam(LayerMethod, Stepwise):
    r"""Each feature map counts as much as the class score drops when it is set to zero.

    S = ReLU(sum_k w_k A_k) with w_k = (y - y_k) / y, y the logit of the class and y_k the same with A_k = 0. Of a
    transformer only the patch tokens of a channel are set to zero, for they are the map. Where y is negative the
    weights change their sign, as the definition has it; where it is zero the map is not finite and degenerate.

    Desai, Ramaswamy, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free Localization",
    WACV 2020.

    Costs, for K feature maps and however many targets: before global average pooling and one linear layer one forward
    pass, for there y - y_k = w_k^c mean(A_k) with the classifier's row w^c. Elsewhere K passes through what follows the
    layer, and 1 + K / 32 through what comes before it; 1 + K whole ones on the few networks that can't go on with
    another batch than they started with (`head_broadcasts`). Feature maps that are zero already cost nothing.
    """

    name: ClassVar[str] = "ablation_cam"
    title: ClassVar[str] = "Ablation-CAM"
    reference: ClassVar[str] = "Desai and Ramaswamy 2020"
    description: ClassVar[str] = (
        "Feature maps of a layer, weighted by how far the class score drops without each of them."
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
            watch: is told of every pass without some of the feature maps; there is no map before the last.

        Returns:
            For each image its logits and maps on the layer's grid, in [0, 1]; the raw maps are not negative.

        Raises:
            UnknownLayerError, NotApplicableError, InvalidTargetError, and whatever `watch` raises.
        """
        layer = self.target_layer(network)
        recording = network.record(images, layer, gradients=False)
        activation = recording.activation
        logits = recording.logits.to(activation)
        head = network.linear_head
        if head is not None and layer in head.names:
            drops = _closed_form(head.weight.to(activation), activation)
        else:
            drops = _measured(network, images, layer, recording, watch)

        def raw_map(seed: Tensor) -> Tensor:
            score = (seed.to(logits) * logits).sum(dim=1, keepdim=True)
            return weighted_sum(drops(seed.to(logits)) / score, activation)

        return explain_recording(recording, targets, raw_map)


def _closed_form(weight: Tensor, activation: Tensor) -> Drops:
    pooled = activation.mean(dim=(2, 3))
    return lambda seed: (seed @ weight) * pooled


def _measured(network: Network, images: Tensor, layer: str, recording: Recording, watch: Watch | None) -> Drops:
    activation = recording.activation
    logits = recording.logits.to(activation)
    present = [has_any.nonzero()[:, 0] for has_any in activation.flatten(2).any(dim=2)]
    chunks = [torch.split(channels, ABLATIONS_AT_ONCE) for channels in present]
    progress = Progress(sum(map(len, chunks)), watch)
    ablated = logits[:, None].repeat(1, activation.shape[1], 1)
    for of_image, image, some in zip(ablated, images, chunks, strict=True):
        for channels in some:
            of_image[channels] = _ablated_logits(network, image[None], layer, channels).to(logits)
            progress.step()
    return lambda seed: torch.einsum("bkc,bc->bk", logits[:, None] - ablated, seed)


def _ablated_logits(network: Network, image: Tensor, layer: str, channels: Tensor) -> Tensor:
    """The logits without each of some feature maps.

    Args:
        network: the classifier.
        image: shape (1, 3, height, width).
        layer: whose feature maps to set to zero.
        channels: indices of the feature maps, shape (n,).

    Returns:
        Shape (n, classes).
    """
    trunks = 1 if head_broadcasts(network, layer) else len(channels)
    return network.changed_logits(image.expand(trunks, -1, -1, -1), layer, _without(channels))


def _without(channels: Tensor) -> Callable[[Tensor], Tensor]:
    """Row i of the changed activation lacks feature map channels[i]."""

    def edit(grid: Tensor) -> Tensor:
        changed = grid.expand(len(channels), -1, -1, -1).clone()
        changed[torch.arange(len(channels)), channels] = 0
        return changed

    return edit
