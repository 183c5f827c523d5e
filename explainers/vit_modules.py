"""Modules that stand in for those of a plain vision transformer: the same output but for rounding, in less time.

They serve logits and their gradient with respect to the pixels, and no gradient of a weight.
"""

from typing import Any

import torch
from torch import Tensor, nn

from explainers.vit import Block
from explainers.vit_forward import layer_norm, linear, merge_heads, scale, split_heads
from explainers.vit_gradient import norm_gradient


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
        output: Tensor = _FullBlock.apply(tokens, self._block)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return output


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


class _FullBlock(torch.autograd.Function):
    """A block and its gradient with respect to the tokens, written out in few calls and with few tensors alive.

    A small transformer spends a tenth of a single image's time on calls and not on arithmetic. The tokens of all images
    lie one behind the other as rows, and their heads as if they were images; the scale of the scores is a factor of
    their products.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, block: Block) -> Tensor:
        shape, rows = tokens.shape[:2], tokens.flatten(0, 1)
        normed, *of_norm1 = layer_norm(block.norm1, rows)
        qkv = _apart(linear(block.attention.qkv, normed), shape, 3, block.attention.heads)
        query, key, value = qkv.unbind()
        attention = _product(query, key.transpose(1, 2), scale(query)).softmax(dim=-1)
        mixed = _together(torch.bmm(attention, value).unsqueeze(0), shape)
        middle = linear(block.attention.proj, mixed).add_(rows)
        normed, *of_norm2 = layer_norm(block.norm2, middle)
        hidden = linear(block.mlp.fc1, normed)
        activated = torch.nn.functional.gelu(hidden, approximate=block.mlp.approximate)
        ctx.block, ctx.shape = block, shape
        ctx.save_for_backward(rows, qkv, attention, middle, hidden, *of_norm1, *of_norm2)
        return linear(block.mlp.fc2, activated).add_(middle).view(tokens.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        block: Block = ctx.block
        rows, qkv, attention, middle, hidden, mean1, rstd1, mean2, rstd2 = ctx.saved_tensors
        of_rows = gradient.flatten(0, 1)
        inner = torch.mm(of_rows, block.mlp.fc2.weight)
        inner = torch.ops.aten.gelu_backward.default(inner, hidden, approximate=block.mlp.approximate)
        inner = torch.mm(inner, block.mlp.fc1.weight)
        of_rows = norm_gradient(block.norm2, middle, mean2, rstd2, inner).add_(of_rows)
        inner = torch.mm(of_rows, block.attention.proj.weight)
        inner = _attention_gradient(qkv, attention, _apart(inner, ctx.shape, 1, block.attention.heads)[0])
        inner = torch.mm(_together(inner, ctx.shape), block.attention.qkv.weight)
        of_rows = norm_gradient(block.norm1, rows, mean1, rstd1, inner).add_(of_rows)
        return of_rows.view(gradient.shape), None


def _attention_gradient(qkv: Tensor, attention: Tensor, of_heads: Tensor) -> Tensor:
    """Gradient with respect to queries, keys and values, (3, batch * heads, tokens, d)."""
    query, key, value = qkv.unbind()
    of_attention = torch.bmm(of_heads, value.transpose(1, 2))
    of_scores = torch._softmax_backward_data(of_attention, attention, -1, attention.dtype)
    gradient = qkv.new_empty(qkv.shape)
    of_query, of_key, of_value = gradient.unbind()
    _product(of_scores, key, scale(query), of_query)
    _product(of_scores.transpose(1, 2), query, scale(query), of_key)
    torch.bmm(attention.transpose(1, 2), of_heads, out=of_value)
    return gradient


def _product(left: Tensor, right: Tensor, factor: float, out: Tensor | None = None) -> Tensor:
    return torch.baddbmm(left.new_empty(1) if out is None else out, left, right, beta=0, alpha=factor, out=out)


def _apart(rows: Tensor, shape: torch.Size, parts: int, heads: int) -> Tensor:
    """Rows with their heads side by side, (batch * tokens, parts * D), to (parts, batch * heads, tokens, d)."""
    batch, tokens = shape
    split = rows.view(batch, tokens, parts, heads, -1).permute(2, 0, 3, 1, 4)
    return split.reshape(parts, batch * heads, tokens, -1)


def _together(heads: Tensor, shape: torch.Size) -> Tensor:
    """The way back."""
    batch, tokens = shape
    split = heads.view(len(heads), batch, -1, tokens, heads.shape[3]).permute(1, 3, 0, 2, 4)
    return split.reshape(batch * tokens, -1)
