"""Masked forward passes."""

import pytest
import torch

from explainers import upsample
from explainers.masking import Stretched, Upsampling, mask_gradient, masked_logits, min_max
from tests.explainers.cases import network_of
from tests.explainers.networks import pictures


@pytest.mark.parametrize(
    ("native", "size"),
    [((7, 7), (224, 224)), ((13, 15), (227, 201)), ((9, 9), (5, 5)), ((1, 1), (8, 9)), ((2, 3), (4, 3))],
)
def test_upsampling_is_bilinear(native: tuple[int, int], size: tuple[int, int]) -> None:
    """Two matrix products give what the general operator gives, and a gradient."""
    maps = torch.randn(3, *native, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    enlarged = Upsampling(native, size, maps)(maps)
    expected = upsample(maps, size)
    torch.testing.assert_close(enlarged, expected, rtol=0, atol=1e-12)
    weights = torch.rand_like(expected)
    gradients = [torch.autograd.grad((values * weights).sum(), maps)[0] for values in (enlarged, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)
    written_out = Upsampling(native, size, maps).gradient(weights)
    torch.testing.assert_close(written_out, gradients[1], rtol=0, atol=1e-10)


def test_min_max() -> None:
    """Each map by itself; a constant one is zero, with a gradient of zero."""
    maps = torch.stack([torch.arange(6.0).view(2, 3) - 2, torch.full((2, 3), 7.0)]).requires_grad_()
    stretched = min_max(maps)
    torch.testing.assert_close(stretched[0], torch.arange(6.0).view(2, 3) / 5)
    assert not stretched[1].any()
    (gradient,) = torch.autograd.grad((stretched * torch.randn(2, 2, 3)).sum(), maps)
    assert gradient.isfinite().all()
    assert not gradient[1].any()


def test_gradient_of_min_max() -> None:
    """As autograd finds it by the formula, also where pixels share the minimum or the maximum."""
    maps = torch.rand(4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    maps[1, :, 2:4], maps[2, 0] = 3, -1
    maps = maps.requires_grad_()
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    expected = (maps - low) / (high - low)
    stretched = min_max(maps)
    assert torch.equal(stretched, expected)
    weights = torch.randn(4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (of_maps,) = torch.autograd.grad((expected * weights).sum(), maps)
    torch.testing.assert_close(Stretched.of(maps.detach()).gradient(weights), of_maps, rtol=0, atol=1e-12)


def test_not_a_number_stays() -> None:
    """A broken map breaks its own mask and gradient only."""
    maps = torch.rand(2, 4, 4)
    maps[0, 1, 1] = torch.nan
    stretched = Stretched.of(maps)
    for values in (stretched.maps, stretched.gradient(torch.rand(2, 4, 4))):
        assert values[0].isnan().any()
        assert values[1].isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_mask_gradient(channels: int, order: torch.memory_format) -> None:
    """What autograd finds by the product."""
    generator = torch.Generator().manual_seed(0)
    images, of_masked = (
        torch.rand(2, channels, 4, 5, dtype=torch.float64, generator=generator).contiguous(memory_format=order)
        for _ in range(2)
    )
    masks = torch.rand(2, 4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    (expected,) = torch.autograd.grad(images * masks[:, None], masks, of_masked)
    torch.testing.assert_close(mask_gradient(of_masked, images), expected, rtol=0, atol=1e-12)


def test_masked_logits() -> None:
    """A mask of ones changes nothing; one of zeros makes the image black."""
    net, images = network_of("vgg"), pictures(2)
    torch.testing.assert_close(masked_logits(net, images, torch.ones(2, 32, 32)), net.logits(images))
    torch.testing.assert_close(masked_logits(net, images, torch.zeros(2, 32, 32)), net.logits(0 * images))
