"""The forward pass of a recognised vision transformer, in plain tensor operations that keep what explaining needs.

No module runs, nothing is hooked and nothing is recorded for autograd. The precision is that of the tokens. Of the last
block only the class token's row is computed: nothing else reaches the logits.

Shapes: B images, T tokens of D values, H heads of d = D / H, Q rows that a block computes (T, or 1 in the last block).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from explainers.vit import Block, Linear, Norm, VisionTransformer


class Normed(NamedTuple):
    """What a normalisation returned, (B, T, D), and the mean and reciprocal deviation that it took, (B, T, 1)."""

    output: Tensor
    mean: Tensor
    rstd: Tensor


@dataclass(frozen=True)
class BlockPass:
    """Everything that a block computed.

    Attributes:
        tokens: what entered, (B, T, D).
        norm1: of the tokens.
        qkv: the next three side by side, as the layer returned them, (B, T, 3 D).
        query: (B, H, Q, d).
        key: (B, H, T, d).
        value: (B, H, T, d).
        scores: query key^T, not scaled yet, (B, H, Q, T).
        attention: its softmax, rows summing to 1, (B, H, Q, T).
        mixed: attention value, heads side by side, (B, Q, D).
        attended: behind the projection, (B, Q, D).
        middle: tokens + attended, (B, Q, D).
        norm2: of the middle.
        hidden: before the GELU, (B, Q, M).
        activated: behind it.
        answer: of the MLP, (B, Q, D).
    """

    block: Block
    tokens: Tensor
    norm1: Normed
    qkv: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    scores: Tensor
    attention: Tensor
    mixed: Tensor
    attended: Tensor
    middle: Tensor
    norm2: Normed
    hidden: Tensor
    activated: Tensor
    answer: Tensor

    @property
    def rows(self) -> int:
        """Q."""
        return self.middle.shape[1]

    @property
    def output(self) -> Tensor:
        """What left the block, (B, Q, D)."""
        return self.middle + self.answer


def run_blocks(vit: VisionTransformer, tokens: Tensor) -> Iterator[BlockPass]:
    """Run the blocks one after another; what the caller does not keep is freed.

    Args:
        vit: the transformer.
        tokens: what enters the first block, (B, T, D), float32 or float64.
    """
    for block in vit.blocks:
        done = run_block(block, tokens, rows=1 if block is vit.blocks[-1] else tokens.shape[1])
        yield done
        tokens = done.output


def classify(vit: VisionTransformer, output: Tensor) -> tuple[Normed, Tensor]:
    """The final normalisation of the last block's output (B, 1, D), and the logits (B, classes)."""
    normed = layer_norm(vit.norm, output)
    return normed, linear(vit.head, normed.output[:, 0])


def logits_of(vit: VisionTransformer, passes: Iterable[BlockPass]) -> Tensor:
    """Logits of a run, (B, classes)."""
    *_, last = passes
    return classify(vit, last.output)[1]


def reproduces(vit: VisionTransformer, tokens: Tensor, logits: Tensor) -> bool:
    """Whether this forward pass takes the tokens to the network's own logits, to rounding.

    The modules alone are no proof: functions that no module shows may stand between them.
    """
    if tokens.dim() != 3 or tokens.shape[1] != vit.prefix + vit.height * vit.width:
        return False
    precision = working_precision(tokens.dtype)
    error = (logits_of(vit, run_blocks(vit, tokens.to(precision))) - logits).abs().max()
    tolerance = max(1e-4, 16 * torch.finfo(tokens.dtype).eps)
    return bool(error <= tolerance * logits.abs().max())  # nor does not-a-number pass


def working_precision(dtype: torch.dtype) -> torch.dtype:
    """Precision to compute in for a network of this one: half precision has too few digits to tell relevances apart."""
    return dtype if dtype == torch.float64 else torch.float32


def run_block(block: Block, tokens: Tensor, rows: int) -> BlockPass:
    """Run one block, for the first `rows` of its tokens."""
    attention, mlp = block.attention, block.mlp
    norm1 = layer_norm(block.norm1, tokens)
    qkv = linear(attention.qkv, norm1.output)
    query, key, value = (split_heads(part, attention.heads) for part in qkv.chunk(3, dim=-1))
    query = query[:, :, :rows]
    scores = query @ key.transpose(-2, -1)
    weights = (scores * scale(query)).softmax(dim=-1)
    mixed = merge_heads(weights @ value)
    attended = linear(attention.proj, mixed)
    middle = tokens[:, :rows] + attended
    norm2 = layer_norm(block.norm2, middle)
    hidden = linear(mlp.fc1, norm2.output)
    activated = torch.nn.functional.gelu(hidden, approximate=mlp.approximate)
    answer = linear(mlp.fc2, activated)
    return BlockPass(
        block=block,
        tokens=tokens,
        norm1=norm1,
        qkv=qkv,
        query=query,
        key=key,
        value=value,
        scores=scores,
        attention=weights,
        mixed=mixed,
        attended=attended,
        middle=middle,
        norm2=norm2,
        hidden=hidden,
        activated=activated,
        answer=answer,
    )


def linear(layer: Linear, x: Tensor) -> Tensor:
    """The layer's output in the precision of `x`."""
    bias = None if layer.bias is None else _like(layer.bias, x)
    return torch.nn.functional.linear(x, _like(layer.weight, x), bias)


def layer_norm(norm: Norm, x: Tensor) -> Normed:
    """The normalisation in the precision of `x`."""
    weight, bias = affine(norm, x)
    return Normed(*torch.native_layer_norm(x, [x.shape[-1]], weight, bias, norm.eps))


def affine(norm: Norm, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Weight and bias of a normalisation in the precision of `x`."""
    weight, bias = norm.weight, norm.bias
    return None if weight is None else _like(weight, x), None if bias is None else _like(bias, x)


def _like(weight: Tensor, x: Tensor) -> Tensor:
    return weight if weight.dtype == x.dtype else weight.to(x.dtype)  # a call that does nothing takes time too


def scale(query: Tensor) -> float:
    """What the scores are multiplied with before the softmax."""
    return float(query.shape[-1] ** -0.5)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) to (B, H, T, d)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, d) to (B, T, D)."""
    return x.transpose(1, 2).flatten(2)


def merge_qkv(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Three of (B, H, T, d) side by side, (B, T, 3 D); zeros where queries are missing."""
    batch, heads, tokens, size = key.shape
    merged = key.new_zeros(batch, tokens, 3, heads, size)
    for index, part in enumerate((query, key, value)):
        merged[:, : part.shape[2], index] = part.transpose(1, 2)
    return merged.flatten(2)
