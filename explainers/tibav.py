"""TIBAV: transformer attribution."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.attention_method import REQUIREMENT, RowOfClass, class_token, explain_tokens, transformer_of
from explainers.errors import InvalidParameterError
from explainers.network import Network
from explainers.parameters import parameter
from explainers.registry import register
from explainers.relevance import Published, Rules, Stable
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.vit import VisionTransformer
from explainers.vit_forward import classify, run_blocks
from explainers.vit_relevance import ClassPass

RULES: dict[str, tuple[Rules, torch.dtype | None]] = {
    "stable": (Stable(), None),
    "published": (Published(), torch.float64),  # in float32 its maps are partly rounding errors
}


@register
@dataclasses.dataclass(frozen=True)
class Tibav:
    r"""Transformer attribution ("Transformer interpretability beyond attention visualization").

    C = product over the blocks of (I + mean_heads((dy_c/dA * R)^+)), last block first, with A a block's attention and R
    the relevance for class c that layer-wise propagation gives it (see `explainers.relevance`). The map is what the
    row of the class token says about the patches. Rows are not normalised.

    The published rules divide by sums that may cancel. On photographs this takes a rounding error of the pixels (1e-7)
    to other maps, so no precision makes them a reliable answer; docs/benchmarks/tibav.md has the figures. The default
    rules share relevance by absolute values instead, and give a map of their own that float32 reproduces.

    Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021.

    Costs about five forward passes for one target and four for each further one; "published" about twice that on a CPU.
    """

    name: ClassVar[str] = "tibav"
    title: ClassVar[str] = "TIBAV"
    reference: ClassVar[str] = "Chefer, Gur, Wolf 2021"
    description: ClassVar[str] = (
        "Relevance of each attention for the class, times its gradient, followed through the blocks to the patches."
    )
    requirement: ClassVar[str] = REQUIREMENT

    rule: str = parameter(
        "stable",
        "How relevance is propagated: stable, or published, which is exact, slower, and very sensitive to the input.",
        choices=tuple(RULES),
    )
    start_layer: int = parameter(
        0, "First block to follow the relevance through, counted from 0; the paper's evaluation used 1.", minimum=0
    )
    attention_for_gradient: bool = parameter(
        False, "The paper's ablation: multiply the relevance with the attention in place of its gradient."
    )
    last_block_only: bool = parameter(False, "The paper's ablation: use the last block alone, without the product.")

    def resolve(self, network: Network) -> Self:
        """The method itself: no parameter depends on the network.

        Raises:
            NotApplicableError: the network is no plain vision transformer.
            InvalidParameterError: it has fewer blocks than `start_layer` says.
        """
        self._start(transformer_of(network))
        return self

    def target_layer(self, network: Network) -> str:
        """Path of the first block that counts; raises as `resolve` does."""
        vit = transformer_of(network)
        return vit.blocks[self._start(vit)].path

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Returns:
            For each image its logits and maps on the grid of patches, in [0, 1]; the raw maps are not negative.

        Raises:
            NotApplicableError, InvalidParameterError, InvalidTargetError.
        """
        self.resolve(network)
        return explain_tokens(network, images, targets, self.run, RULES[self.rule][1], program=self)

    def run(self, vit: VisionTransformer, tokens: Tensor) -> tuple[Tensor, RowOfClass]:
        """The method in the precision of the tokens that enter the first block, (batch, tokens, D).

        Returns:
            Logits, and a function from classes to the class token's row of C.
        """
        start = self._start(vit)
        passes = [done for index, done in enumerate(run_blocks(vit, tokens)) if index >= start]
        normed, logits = classify(vit, passes[-1].output)

        def row_of_class(seed: Tensor) -> Tensor:
            walk = ClassPass(vit, passes[-1], normed, logits, seed, RULES[self.rule][0])
            row = class_token(tokens)
            for done in reversed(passes):
                relevance, gradient = walk.attention(done)
                factor = done.attention if self.attention_for_gradient else gradient
                weights = (factor * relevance).clamp(min=0).mean(dim=1)
                row = row + row[..., : done.rows] @ weights
                if done is not passes[0]:
                    walk.descend()
            return row[:, 0]

        return logits, row_of_class

    def _start(self, vit: VisionTransformer) -> int:
        depth = len(vit.blocks)
        if self.start_layer >= depth:
            raise InvalidParameterError("start_layer", f"start_layer must be between 0 and {depth - 1}")
        return depth - 1 if self.last_block_only else self.start_layer
