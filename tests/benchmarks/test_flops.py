"""Operations that torch's own counter doesn't know."""

import pytest
import torch
from torch import nn

from benchmarks.flops import flop_counter
from explainers.alike import SmallMaps

PRODUCTS = 2 * 16 * 16 * 9  # of a pixel of the output


@pytest.mark.parametrize("side", [20, 32])
@pytest.mark.parametrize("count", [1, 3])
def test_small_maps(count: int, side: int) -> None:
    """As many as for any other convolution, there and back, however it is computed."""
    convolution = SmallMaps(nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False))
    x = torch.rand(count, 16, side, side).requires_grad_()
    with flop_counter() as counter:
        convolution(x).sum().backward()
    assert counter.get_total_flops() == 2 * count * side**2 * PRODUCTS
