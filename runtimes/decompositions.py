"""Gradients for which ONNX has no operator, written in operators that it has.

Only gradients of activations: while a network is explained its weights are frozen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions

aten = torch.ops.aten

_OF_TORCH = (
    aten.max_pool2d_with_indices_backward,
    aten.native_batch_norm_backward,
    aten.native_layer_norm_backward,
    aten.native_group_norm_backward,
    aten._softmax_backward_data,
    aten.gelu_backward,
    aten.silu_backward,
    aten.hardswish_backward,
    aten.hardsigmoid_backward,
    aten.hardtanh_backward,
    aten.threshold_backward,
    aten.sigmoid_backward,
    aten.tanh_backward,
)


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The table for `make_fx`: torch's own decompositions, and those of this file."""
    return {
        **get_decompositions(_OF_TORCH),
        aten.convolution_backward.default: convolution_backward,
        aten._adaptive_avg_pool2d_backward.default: adaptive_average_backward,
        aten.avg_pool2d_backward.default: average_backward,
    }


def convolution_backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    _bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, None, None]:
    """Gradient of a convolution's input: a transposed convolution, or the other way round."""
    if wanted[1] or wanted[2]:
        raise NotImplementedError("the gradient of a convolution's weights")
    back: Tensor
    if transposed:
        back = aten.convolution(gradient, weight, None, stride, padding, dilation, False, [0] * len(stride), groups)
        return back, None, None
    # Rows and columns that the last step of a strided window didn't reach.
    missed = [
        inputs.shape[2 + axis]
        - ((gradient.shape[2 + axis] - 1) * stride[axis] - 2 * padding[axis] + dilation[axis] * (size - 1) + 1)
        for axis, size in enumerate(weight.shape[2:])
    ]
    back = aten.convolution(gradient, weight, None, stride, padding, dilation, True, missed, groups)
    return back, None, None


def adaptive_average_backward(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Gradient of adaptive average pooling's input: R^T g C, with the means of rows and of columns as matrices."""
    rows = _means(gradient.shape[2], inputs.shape[2]).to(gradient)
    columns = _means(gradient.shape[3], inputs.shape[3]).to(gradient)
    return rows.T @ gradient @ columns


def average_backward(
    gradient: Tensor,
    inputs: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """Gradient of average pooling's input: each window hands its share to each of its pixels."""
    sides = list(kernel) * (2 // len(kernel))
    steps = (list(stride) or sides) * (2 // len(stride or sides))
    borders = list(padding) * (2 // len(padding))
    if divisor is not None or ceil_mode or (any(borders) and not count_include_pad):
        raise NotImplementedError("the gradient of an average over windows that differ")
    channels = inputs.shape[1]
    share = torch.full((channels, 1, *sides), 1 / (sides[0] * sides[1])).to(gradient)
    weights = (gradient, inputs, share, None, steps, borders, [1, 1], False, [0, 0], channels, [True, False, False])
    back = convolution_backward(*weights)[0]
    assert back is not None  # noqa: S101  # it was wanted
    return back


def _means(outputs: int, inputs: int) -> Tensor:
    """Row i takes the mean that makes output i of adaptive pooling: shape (outputs, inputs)."""
    matrix = torch.zeros(outputs, inputs)
    for row in range(outputs):
        begin, end = row * inputs // outputs, -(-(row + 1) * inputs // outputs)
        matrix[row, begin:end] = 1 / (end - begin)
    return matrix
