"""Operations that torch's own counter doesn't know."""

import pytest
import torch
from torch import nn

from benchmarks.flops import flop_counter, operations
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


@pytest.mark.parametrize("no_gradient", [True, False])
def test_attention(no_gradient: bool) -> None:
    """Fused attention counts too: four linear layers of D x D, and two products of tokens."""
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.rand(1, 5, 8)
    with torch.inference_mode(no_gradient):
        found = operations(lambda: layer(x, x, x, need_weights=False))
    assert found == 2 * (4 * 5 * 8 * 8 + 2 * 5 * 5 * 8)
    assert torch.backends.mha.get_fastpath_enabled()
