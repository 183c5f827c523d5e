"""Attention flow."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from explainers.attention_method import REQUIREMENT, RowOfClass, explain_tokens, transformer_of
from explainers.errors import NotApplicableError
from explainers.max_flow import Array, max_flow
from explainers.network import Network
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.vit import VisionTransformer
from explainers.vit_forward import classify, run_blocks
from explainers.watch import Stepwise, Watch

MOST_EDGES = 500_000  # 197 tokens and 12 blocks, as of ViT-Tiny at 224 x 224, are 465,708


@register
@dataclasses.dataclass(frozen=True)
class AttentionFlow(Stepwise):
    r"""How much could flow from the class token to each patch if attention were the width of pipes.

    Nodes are the tokens at the output of each block and at the input of the first. From each token behind a block an
    edge leads to each token before it, whose capacity is its entry in (mean_heads(A) + I) / 2: the factors of attention
    rollout. The map is, at each patch, the maximum flow from the class token behind the last block to the patch before
    the first. It is the same map for every class.

    Abnar, Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

    No flow is larger than what the class token's edges in the last block can take, 1, or than what the patch's edges in
    the first block can. On six photographs ViT-Tiny's flows were the smaller of the two everywhere, so that the map
    shows little but how much attention a patch gets in the first block. In shallower networks the blocks between count.

    Each flow is computed by itself and exactly, in float64 (`explainers.max_flow`). In the network's float32 the
    attention is only known to about 1e-7, and a flow, which is a sum of capacities, to about 1e-6.

    Costs one forward pass, and for each patch a maximum flow: seconds for an image. So networks are refused that have
    more than 500,000 edges, tokens^2 * blocks. A watch is told of every patch that is done. When it stops the method
    early, the patches not reached get the smaller of the capacities that leave the class token and reach the patch: the
    flow is never larger, and often as large.
    """

    name: ClassVar[str] = "attention_flow"
    title: ClassVar[str] = "Attention flow"
    reference: ClassVar[str] = "Abnar, Zuidema 2020"
    description: ClassVar[str] = (
        "How much could flow from the class token to each patch through all blocks, for any class; takes seconds."
    )
    requirement: ClassVar[str] = f"{REQUIREMENT}; tokens * tokens * blocks at most {MOST_EDGES}"

    def resolve(self, network: Network) -> Self:
        """The method itself: it has no parameters.

        Raises:
            NotApplicableError: the network is no plain vision transformer, or too large a one.
        """
        _transformer_of(network)
        return self

    def target_layer(self, network: Network) -> str:
        """Path of the first block; raises as `resolve` does."""
        return _transformer_of(network).blocks[0].path

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every patch of every image, with no objective, and may stop the method early.

        Returns:
            For each image its logits and, for each target, the same map on the grid of patches, in [0, 1].

        Raises:
            NotApplicableError, InvalidTargetError, and whatever `watch` raises.
        """
        _transformer_of(network)

        def run(vit: VisionTransformer, tokens: Tensor) -> tuple[Tensor, RowOfClass]:
            attentions = []
            for done in run_blocks(vit, tokens):
                attentions.append(done.attention.mean(dim=1))
            logits = classify(vit, done.output)[1]
            rows: list[Tensor] = []

            def row_of_class(_seed: Tensor) -> Tensor:
                if not rows:  # computed once the targets are known to be good, and for all of them together
                    rows.append(_flows(attentions, vit.prefix, watch))
                return rows[0]

            return logits, row_of_class

        return explain_tokens(network, images, targets, run)


def _transformer_of(network: Network) -> VisionTransformer:
    """The network's blocks.

    Raises:
        NotApplicableError: it is no plain vision transformer, or too large a one.
    """
    vit = transformer_of(network)
    tokens = vit.prefix + vit.height * vit.width
    edges = tokens * tokens * len(vit.blocks)
    if edges > MOST_EDGES:
        raise NotApplicableError(
            f"attention flow takes at most {MOST_EDGES} edges (tokens * tokens * blocks), and this network has {edges}"
        )
    return vit


@dataclasses.dataclass(frozen=True, eq=False)
class _Graph:
    """The attention graph of one image.

    Attributes:
        source: capacities of the edges that leave the class token behind the last block, (T,).
        between: those of the blocks between the last and the first, last first, each (T, T).
        sinks: for each token before the first block, those of the edges that reach it, (T, T).
    """

    source: Array
    between: list[Array]
    sinks: Array

    @classmethod
    def of(cls, attentions: Sequence[Array]) -> Self:
        """The graph of each block's mean attention, (T, T), first block first; of the last block one row will do."""
        first, *others = [_with_residual(attention) for attention in attentions]
        if not others:  # each token is reached from the class token only, by an edge of the source
            return cls(first[0], [], np.eye(first.shape[1]))
        *between, last = others
        return cls(last[0], between[::-1], first.T)

    def bounds(self) -> Array:
        """What the edges of the class token and those of each token before the first block allow, (T,)."""
        bounds: Array = np.minimum(self.source.sum(), self.sinks.sum(axis=1))
        return bounds

    def flow(self, token: int) -> float:
        """Maximum flow to one token before the first block."""
        return max_flow(self.source, self.between, self.sinks[token])


def _with_residual(attention: Array) -> Array:
    """Rows of (A + I) / 2, each of which sums to 1."""
    factor: Array = (attention / attention.sum(axis=1, keepdims=True) + np.eye(*attention.shape)) / 2
    return factor


def _flows(attentions: Sequence[Tensor], prefix: int, watch: Watch | None) -> Tensor:
    """Flows of a batch.

    Args:
        attentions: for each block the mean over its heads, (batch, T, T), of the last block perhaps only the first row.
        prefix: tokens before those of the patches; nothing is computed for them.
        watch: is told of every patch.

    Returns:
        Shape (batch, T), float64, not-a-number for images whose attention is.
    """
    blocks = [attention.double().cpu().numpy() for attention in attentions]
    graphs = [_Graph.of([block[image] for block in blocks]) for image in range(len(blocks[0]))]
    flows = np.stack([graph.bounds() for graph in graphs])
    todo = [(image, token) for image in range(len(graphs)) for token in range(prefix, flows.shape[1])]
    for done, (image, token) in enumerate(todo, start=1):
        if np.isfinite(flows[image]).all():
            flows[image, token] = graphs[image].flow(token)
        if watch is not None and watch.step(done, len(todo), float("nan")):
            break
    return torch.from_numpy(flows)
