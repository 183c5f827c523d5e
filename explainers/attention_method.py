"""What the methods that read a transformer's attention share."""

import abc
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.class_maps import explain_logits
from explainers.errors import NotApplicableError
from explainers.network import Network
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.vit import VisionTransformer
from explainers.vit_forward import working_precision

REQUIREMENT = "a plain vision transformer: softmax attention blocks, and a linear classifier on its class token"

RowOfClass = Callable[[Tensor], Tensor]
"""Takes a one-hot seed, (batch, classes), to what the class token gets from each token, (batch, tokens)."""


def transformer_of(network: Network) -> VisionTransformer:
    """The network's blocks.

    Raises:
        NotApplicableError: it is no plain vision transformer.
    """
    if network.transformer is None:
        raise NotApplicableError(f"the method needs {REQUIREMENT}")
    return network.transformer


@dataclasses.dataclass(frozen=True)
class AttentionMap(abc.ABC):
    """A method without parameters whose map is the same for every class: it only reads the attention."""

    requirement: ClassVar[str] = REQUIREMENT

    def resolve(self, network: Network) -> Self:
        """The method itself: it has no parameters.

        Raises:
            NotApplicableError: the network is no plain vision transformer.
        """
        transformer_of(network)
        return self

    @staticmethod
    @abc.abstractmethod
    def run(vit: VisionTransformer, tokens: Tensor) -> tuple[Tensor, RowOfClass]:
        """As the `run` of `explain_tokens`."""

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
        return explain_tokens(network, images, targets, self.run)


def explain_tokens(
    network: Network,
    images: Tensor,
    targets: Sequence[Targets],
    run: Callable[[VisionTransformer, Tensor], tuple[Tensor, RowOfClass]],
    dtype: torch.dtype | None = None,
    program: Hashable = None,
) -> list[ImageResult]:
    """Explain a batch by weights of its tokens.

    Args:
        network: a plain vision transformer.
        images: shape (batch, 3, height, width), in [0, 1].
        targets: one entry for each image.
        run: takes the transformer and the tokens that enter it to logits, and to a function from classes to weights of
            tokens. The weights of the patches are the map.
        dtype: precision of every step from the pixels on. When not given the tokens are in the network's own, and what
            follows is too unless it is less than float32.
        program: says which `run` this is, where it may be captured on a GPU (`explainers.graphs`): it then waits for
            none of its values on the processor.

    Raises:
        NotApplicableError, InvalidTargetError.
    """
    vit = transformer_of(network)
    with torch.inference_mode(False), torch.no_grad():
        own = vit.head.weight.dtype
        tokens = network.tokens(images, dtype or own)
        tokens = tokens.to(dtype or working_precision(own))
        stages = nullcontext(run(vit, tokens)) if program is None else _captured(network, vit, run, tokens, program)
        with stages as (logits, row_of_class):

            def raw_map(seed: Tensor) -> Tensor:
                return row_of_class(seed)[:, vit.prefix :].reshape(-1, vit.height, vit.width)

            return explain_logits(logits, targets, raw_map)


def _captured(
    network: Network,
    vit: VisionTransformer,
    run: Callable[[VisionTransformer, Tensor], tuple[Tensor, RowOfClass]],
    tokens: Tensor,
    program: Hashable,
) -> AbstractContextManager[tuple[Tensor, RowOfClass]]:
    """The run, replayed where it was captured: with the weights as they are, because some follow from others."""
    return network.graphs.stages((program, vit.versions), lambda given: run(vit, given), tokens)


def class_token(tokens: Tensor) -> Tensor:
    """The class token's row of the identity, (batch, 1, tokens): a product of matrices starts with it."""
    row = tokens.new_zeros(len(tokens), 1, tokens.shape[1])
    row[..., 0].fill_(1)
    return row
