"""Normalisation and upsampling of maps."""

import pytest
import torch

from explainers import normalise, upsample
from explainers.maps import CONSTANT_TOLERANCE


def test_each_map_by_its_own_range() -> None:
    """Maps are stretched one by one, and their ranges kept."""
    raw = torch.tensor([[[0.0, 2.0], [1.0, 4.0]], [[-3.0, -1.0], [-2.0, -3.0]]])
    result = normalise(raw)
    assert result.maps.tolist() == [[[0, 0.5], [0.25, 1]], [[0, 1], [0.5, 0]]]
    assert result.minimum.tolist() == [0, -3]
    assert result.maximum.tolist() == [4, -1]
    assert result.degenerate.tolist() == [False, False]


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -7.5, 1e30, 1e-40])
def test_constant_maps(value: float) -> None:
    """A constant map is zero and degenerate, whatever its value."""
    result = normalise(torch.full((1, 3, 3), value))
    assert result.degenerate.tolist() == [True]
    assert not result.maps.any()
    assert result.minimum.item() == result.maximum.item() == pytest.approx(value)


def test_constant_but_for_rounding() -> None:
    """Differences of a few units in the last place are not stretched to a picture; larger ones are."""
    almost = torch.full((2, 4, 4), 1000.0)
    almost[0, 0, 0] *= 1 + CONSTANT_TOLERANCE / 2
    almost[1, 0, 0] *= 1 + CONSTANT_TOLERANCE * 2
    assert normalise(almost).degenerate.tolist() == [True, False]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_maps_that_are_not_finite(value: float) -> None:
    """One broken value makes its own map degenerate with no range, and no other."""
    raw = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    raw[0, 1, 1] = value
    result = normalise(raw)
    assert result.degenerate.tolist() == [True, False]
    assert result.maps.isfinite().all()
    assert result.minimum.isnan().tolist() == [True, False]
    assert result.maximum.isnan().tolist() == [True, False]


def test_extreme_ranges() -> None:
    """Very small ranges are stretched as any other; one that overflows float32 is degenerate."""
    small = torch.tensor([[[0.0, 1e-30], [2e-30, 4e-30]]])
    assert normalise(small).maps.flatten().tolist() == pytest.approx([0, 0.25, 0.5, 1])
    assert normalise(torch.tensor([[[-3e38, 3e38]]])).degenerate.tolist() == [True]


def test_upsample_by_hand() -> None:
    """Cell centres stay where they are: doubling a pair of cells gives quarters between them."""
    doubled = upsample(torch.tensor([[0.0, 1.0]]), (1, 4))
    assert doubled.tolist() == [[0, 0.25, 0.75, 1]]


def test_upsample_shapes() -> None:
    """One map or a stack, square or not, stays in range."""
    maps = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    enlarged = upsample(maps, (30, 41))
    assert enlarged.shape == (3, 30, 41)
    assert torch.equal(upsample(maps[1], (30, 41)), enlarged[1])
    assert enlarged.min() >= maps.min()
    assert enlarged.max() <= maps.max()
