"""Attention rollout."""

import dataclasses
from typing import ClassVar

from torch import Tensor

from explainers.attention_method import AttentionMap, RowOfClass, class_token, transformer_of
from explainers.network import Network
from explainers.registry import register
from explainers.vit import VisionTransformer
from explainers.vit_forward import classify, run_blocks


@register
@dataclasses.dataclass(frozen=True)
class AttentionRollout(AttentionMap):
    r"""Attention followed through all blocks.

    C = product over the blocks, last first, of the row-normalised mean_heads(A) + I; the map is the row of the class
    token. I stands for the residual connection. Rows of A sum to 1, so each factor is (mean_heads(A) + I) / 2, and of
    the product only one row is ever computed. It is the same map for every class.

    Abnar, Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

    Costs one forward pass.
    """

    name: ClassVar[str] = "attention_rollout"
    title: ClassVar[str] = "Attention rollout"
    reference: ClassVar[str] = "Abnar, Zuidema 2020"
    description: ClassVar[str] = "Where the class token's information comes from, through all blocks, for any class."

    def target_layer(self, network: Network) -> str:
        """Path of the first block; raises as `resolve` does."""
        return transformer_of(network).blocks[0].path

    @staticmethod
    def run(vit: VisionTransformer, tokens: Tensor) -> tuple[Tensor, RowOfClass]:
        """As `AttentionMap.run`."""
        attentions = []
        for done in run_blocks(vit, tokens):
            attentions.append(done.attention.mean(dim=1))
        logits = classify(vit, done.output)[1]
        row = class_token(tokens)
        for attention in reversed(attentions):
            row = (row + row[..., : attention.shape[1]] @ attention) / 2
        return logits, lambda _seed: row[:, 0]
