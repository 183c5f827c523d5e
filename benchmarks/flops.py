"""Counts floating point operations, also of the convolutions that torch's counter has no fitting formula for."""

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

Shape = list[int]


def flop_counter() -> FlopCounterMode:
    """Torch's counter, for a `with`; knows what small maps are computed by (`explainers.alike`)."""
    aten = torch.ops.aten
    formulas = {
        aten._slow_conv2d_forward: _forward,
        aten._slow_conv2d_backward: _backward,
        aten.mkldnn_convolution: _forward,
    }
    return FlopCounterMode(display=False, custom_mapping=formulas)


def _forward(x: Shape, weight: Shape, *_: object, out_shape: Shape) -> int:
    return conv_flop_count(x, weight, out_shape)


def _backward(gradient: Shape, x: Shape, weight: Shape, *_: object, out_shape: object) -> int:
    return conv_flop_count(x, weight, gradient)  # of the input; weights get none
