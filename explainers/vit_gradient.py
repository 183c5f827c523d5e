"""The gradient of a class score with respect to a transformer's attention, written out.

Only what leads down to the wanted attention is computed: no gradient of a weight, and none below the last block asked
for. Shapes as in `explainers.vit_forward`.
"""

import torch
from torch import Tensor

from explainers.vit import Norm, VisionTransformer
from explainers.vit_forward import BlockPass, Normed, affine, merge_qkv, scale, split_heads


def output_gradient(vit: VisionTransformer, last: BlockPass, normed: Normed, seed: Tensor) -> Tensor:
    """Gradient of sum(seed * logits) with respect to the last block's output, (B, 1, D)."""
    gradient = (seed @ vit.head.weight.to(seed.dtype)).unsqueeze(1)
    return norm_gradient(vit.norm, last.output, normed.mean, normed.rstd, gradient)


class BlockGradient:
    """One block of the backward pass.

    Attributes:
        attention: gradient with respect to the attention, (B, H, Q, T).
    """

    def __init__(self, done: BlockPass, gradient: Tensor) -> None:
        """Go from the block's output down to its attention.

        Args:
            done: the block's forward pass.
            gradient: with respect to the block's output, (B, Q, D).
        """
        mlp, proj = done.block.mlp, done.block.attention.proj
        dtype = gradient.dtype
        inner = gradient @ mlp.fc2.weight.to(dtype)
        inner = torch.ops.aten.gelu_backward(inner, done.hidden, approximate=mlp.approximate)
        inner = inner @ mlp.fc1.weight.to(dtype)
        self._done = done
        norm2 = done.norm2
        self._middle = gradient + norm_gradient(done.block.norm2, done.middle, norm2.mean, norm2.rstd, inner)
        self._mixed = split_heads(self._middle @ proj.weight.to(dtype), done.block.attention.heads)
        self.attention: Tensor = self._mixed @ done.value.transpose(-2, -1)

    def tokens(self) -> Tensor:
        """Go on to the tokens that entered the block: the gradient with respect to them, (B, T, D)."""
        done = self._done
        dtype = self._mixed.dtype
        scores = torch._softmax_backward_data(self.attention, done.attention, -1, dtype) * scale(done.query)
        query = scores @ done.key
        key = scores.transpose(-2, -1) @ done.query
        value = done.attention.transpose(-2, -1) @ self._mixed
        inner = merge_qkv(query, key, value) @ done.block.attention.qkv.weight.to(dtype)
        gradient = norm_gradient(done.block.norm1, done.tokens, done.norm1.mean, done.norm1.rstd, inner)
        gradient[:, : done.rows] += self._middle
        return gradient


def norm_gradient(norm: Norm, x: Tensor, mean: Tensor, rstd: Tensor, gradient: Tensor) -> Tensor:
    """Gradient with respect to the input `x` of a normalisation that took this mean and reciprocal deviation of it."""
    wanted = [True, False, False]
    found = torch.ops.aten.native_layer_norm_backward.default(
        gradient, x, [x.shape[-1]], mean, rstd, *affine(norm, x), wanted
    )
    return found[0]  # type: ignore[no-any-return]
