"""Raw attention."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from torch import Tensor

from explainers.attention_method import REQUIREMENT, RowOfClass, explain_tokens, transformer_of
from explainers.network import Network
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.vit import VisionTransformer
from explainers.vit_forward import classify, run_blocks


@register
@dataclasses.dataclass(frozen=True)
class RawAttention:
    r"""Attention of the class token in the last block.

    S = mean over the heads of A_L's row of the class token. It is the same map for every class.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, for the attention; the map is the usual baseline.

    Costs one forward pass.
    """

    name: ClassVar[str] = "raw_attention"
    title: ClassVar[str] = "Raw attention"
    reference: ClassVar[str] = "Vaswani et al. 2017"
    description: ClassVar[str] = "Where the class token looks in the last block, whatever the class."
    requirement: ClassVar[str] = REQUIREMENT

    def resolve(self, network: Network) -> Self:
        """The method itself: it has no parameters.

        Raises:
            NotApplicableError: the network is no plain vision transformer.
        """
        transformer_of(network)
        return self

    def target_layer(self, network: Network) -> str:
        """Path of the last block; raises as `resolve` does."""
        return transformer_of(network).blocks[-1].path

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Returns:
            For each image its logits and, for each target, the same map on the grid of patches, in [0, 1].

        Raises:
            NotApplicableError, InvalidTargetError.
        """
        return explain_tokens(network, images, targets, _run)


def _run(vit: VisionTransformer, tokens: Tensor) -> tuple[Tensor, RowOfClass]:
    *_, last = run_blocks(vit, tokens)
    row = last.attention.mean(dim=1)[:, 0]
    return classify(vit, last.output)[1], lambda _seed: row
