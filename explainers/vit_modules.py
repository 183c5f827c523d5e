"""Modules that stand in for those of a plain vision transformer: the same output but for rounding, in less time.

They serve logits and their gradient with respect to the pixels, and no gradient of a weight.
"""

from typing import Any

import torch
from torch import Tensor, nn

from explainers.vit import Block
from explainers.vit_forward import layer_norm, linear, merge_heads, merge_qkv, scale, split_heads


class Patches(nn.Module):
    """A convolution whose windows lie side by side, as a product of matrices: a third of the time of its gradient."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach().permute(0, 2, 3, 1).flatten(1)  # channels innermost, as in channels_last
        self._weight, self._bias = weight, convolution.bias
        self._height, self._width = convolution.kernel_size

    @staticmethod
    def can_replace(convolution: nn.Conv2d) -> bool:
        """Whether a convolution is one."""
        sizes = tuple(convolution.kernel_size), tuple(convolution.stride)
        plain = convolution.groups == 1 and set(convolution.dilation) == {1} and set(convolution.padding) == {0}
        return type(convolution) is nn.Conv2d and plain and sizes[0] == sizes[1]

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, D, rows, columns)."""
        rows, columns = images.shape[2] // self._height, images.shape[3] // self._width
        whole = images[:, :, : rows * self._height, : columns * self._width]
        windows = whole.reshape(*images.shape[:2], rows, self._height, columns, self._width)
        windows = windows.permute(0, 2, 4, 3, 5, 1).flatten(3)
        return torch.nn.functional.linear(windows, self._weight, self._bias).permute(0, 3, 1, 2)


class FullBlock(nn.Module):
    """A transformer's block: (batch, tokens, D) to the same."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self._block = block

    def forward(self, tokens: Tensor) -> Tensor:
        """As `explainers.vit_forward.run_block` with all rows."""
        attention = self._block.attention
        qkv = linear(attention.qkv, layer_norm(self._block.norm1, tokens).output)
        mixed: Tensor = _Attention.apply(qkv, attention.heads)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return _with_mlp(self._block, tokens + linear(attention.proj, mixed))


class ClassTokenBlock(nn.Module):
    """A transformer's block that computes the class token's row: (batch, tokens, D) to (batch, 1, D).

    One query needs no keys and values: q (X W_k^T)^T = (q W_k) X^T and a (X W_v^T) = (a X) W_v^T, with b_v once since a
    sums to 1, and without b_k, which the softmax takes out.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self._block = block

    def forward(self, tokens: Tensor) -> Tensor:
        """As `explainers.vit_forward.run_block` with one row. Each image goes by itself, to round as alone."""
        return torch.cat([self._row(image) for image in torch.split(tokens, 1)])

    def _row(self, tokens: Tensor) -> Tensor:
        mixed = self._mixed(layer_norm(self._block.norm1, tokens).output)
        return _with_mlp(self._block, tokens[:, :1] + linear(self._block.attention.proj, mixed))

    def _mixed(self, normed: Tensor) -> Tensor:
        """What the class token gets from all tokens, heads side by side: (batch, tokens, D) to (batch, 1, D)."""
        width, heads = normed.shape[-1], self._block.attention.heads
        of_query, of_key, of_value = self._block.attention.qkv.split(width)
        query = split_heads(linear(of_query, normed[:, :1]), heads)  # (batch, heads, 1, d)
        asked = query @ of_key.weight.reshape(heads, -1, width)
        attention = (asked[:, :, 0] @ normed.transpose(1, 2) * scale(query)).softmax(dim=-1)
        seen = (attention @ normed).unsqueeze(2)  # (batch, heads, 1, D)
        mixed = merge_heads(seen @ of_value.weight.reshape(heads, -1, width).transpose(1, 2))
        return mixed if of_value.bias is None else mixed + of_value.bias


def _with_mlp(block: Block, middle: Tensor) -> Tensor:
    hidden = linear(block.mlp.fc1, layer_norm(block.norm2, middle).output)
    answer: Tensor = middle + linear(block.mlp.fc2, torch.nn.functional.gelu(hidden, approximate=block.mlp.approximate))
    return answer


class _Attention(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) v for q, k and v side by side, (batch, tokens, 3 D) to (batch, tokens, D).

    The scale is a factor of the products, and the three gradients are written where they belong: autograd takes passes
    over the scores for the one, and copies for the other.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int) -> Tensor:
        query, key, value = (split_heads(part, heads) for part in qkv.chunk(3, dim=-1))
        ctx.shape, ctx.scale = query.shape, scale(query)
        query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        attention = _product(query, key.transpose(1, 2), ctx.scale).softmax(dim=-1)
        ctx.save_for_backward(query, key, value, attention)
        return merge_heads((attention @ value).view(ctx.shape))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        query, key, value, attention = ctx.saved_tensors
        of_mixed = split_heads(gradient, ctx.shape[1]).flatten(0, 1)
        of_attention = of_mixed @ value.transpose(1, 2)
        of_scores = torch._softmax_backward_data(of_attention, attention, -1, attention.dtype)
        of_query = _product(of_scores, key, ctx.scale)
        of_key = _product(of_scores.transpose(1, 2), query, ctx.scale)
        of_value = attention.transpose(1, 2) @ of_mixed
        return merge_qkv(*(part.view(ctx.shape) for part in (of_query, of_key, of_value))), None


def _product(left: Tensor, right: Tensor, factor: float) -> Tensor:
    return torch.baddbmm(left.new_empty(1), left, right, beta=0, alpha=factor)
