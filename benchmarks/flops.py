"""Counts floating point operations, also where torch's counter by itself has no formula that fits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

Shape = list[int]


@contextmanager
def flop_counter() -> Iterator[FlopCounterMode]:
    """Torch's counter; it knows what small maps are computed by (`explainers.alike`), and fused attention is split."""
    aten = torch.ops.aten
    formulas = {
        aten._slow_conv2d_forward: _forward,
        aten._slow_conv2d_backward: _backward,
        aten.mkldnn_convolution: _forward,
    }
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def operations(program: Callable[[], object]) -> int:
    """Floating point operations of a program: of matrix products and convolutions."""
    with flop_counter() as counter:
        program()
    return int(counter.get_total_flops())


def _forward(x: Shape, weight: Shape, *_: object, out_shape: Shape) -> int:
    return conv_flop_count(x, weight, out_shape)


def _backward(gradient: Shape, x: Shape, weight: Shape, *_: object, out_shape: object) -> int:
    return conv_flop_count(x, weight, gradient)  # of the input; weights get none
