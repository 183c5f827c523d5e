"""Raw attention."""

import dataclasses
from typing import ClassVar

from torch import Tensor

from explainers.attention_method import AttentionMap, RowOfClass, transformer_of
from explainers.network import Network
from explainers.registry import register
from explainers.vit import VisionTransformer
from explainers.vit_forward import classify, run_blocks


@register
@dataclasses.dataclass(frozen=True)
class RawAttention(AttentionMap):
    r"""Attention of the class token in the last block.

    S = mean over the heads of A_L's row of the class token. It is the same map for every class.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, for the attention; the map is the usual baseline.

    Costs one forward pass.
    """

    name: ClassVar[str] = "raw_attention"
    title: ClassVar[str] = "Raw attention"
    reference: ClassVar[str] = "Vaswani et al. 2017"
    description: ClassVar[str] = "Where the class token looks in the last block, whatever the class."

    def target_layer(self, network: Network) -> str:
        """Path of the last block; raises as `resolve` does."""
        return transformer_of(network).blocks[-1].path

    @staticmethod
    def run(vit: VisionTransformer, tokens: Tensor) -> tuple[Tensor, RowOfClass]:
        """As `AttentionMap.run`."""
        *_, last = run_blocks(vit, tokens)
        row = last.attention.mean(dim=1)[:, 0]
        return classify(vit, last.output)[1], lambda _seed: row
