"""Sparseness, entropy and where a map's energy is, worked out by hand."""

import math

import pytest
import torch

from quality import BorderMass, CornerMass, Entropy, Evidence, GiniSparseness
from tests.quality.toys import seen


def test_gini_sparseness() -> None:
    """Sorted 0, 1/4, 3/4, 1 with weights -3, -1, 1, 3 over 4 * 2: (-1/4 + 3/4 + 3) / 8."""
    assert float(GiniSparseness().values(seen([[0.25, 1.0], [0.0, 0.75]]))) == pytest.approx(3.5 / 8)
    assert float(GiniSparseness().values(seen([[0.0, 1.0], [0.0, 0.0]]))) == pytest.approx(1 - 1 / 4)


def test_entropy() -> None:
    """Shares 1/2, 1/4, 1/4, 0: 1.5 bits of 2."""
    assert float(Entropy().values(seen([[1.0, 0.5], [0.5, 0.0]]))) == pytest.approx(1.5 / 2)
    assert float(Entropy().values(seen([[1.0, 0.0], [0.0, 0.0]]))) == 0
    assert float(Entropy().values(seen([[1.0, 1.0], [1.0, 0.0]]))) == pytest.approx(math.log(3) / math.log(4))


def test_border_mass() -> None:
    """4 x 10 pixels: a border of 0.1 is the first and last column (centres at 1/20) and no row (centres at 1/8)."""
    saliency = torch.zeros(4, 10)
    saliency[1, 0], saliency[2, 9], saliency[0, 4], saliency[2, 5] = 1.0, 0.5, 0.25, 0.75
    assert float(BorderMass().values(seen(saliency.tolist()))) == pytest.approx(1.5 / 2.5)
    # at 0.13 the first and last row as well
    assert float(BorderMass(width=0.13).values(seen(saliency.tolist()))) == pytest.approx(1.75 / 2.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_pixel_that_is_not_finite(value: float) -> None:
    """Its image has no figure; a pixel that is merely very large does not matter."""
    images = torch.zeros(2, 3, 4, 4)
    images[0, 1, 2, 3], images[1, 1, 2, 3] = value, 3e38
    maps = torch.eye(4).expand(2, 4, 4)
    broken, large = BorderMass().values(Evidence(images, ((0,), (0,)), maps)).tolist()
    assert math.isnan(broken)
    assert math.isfinite(large)


def test_corner_mass() -> None:
    """10 x 10 pixels: corners of 2 x 2 at the default width."""
    saliency = torch.zeros(10, 10)
    saliency[1, 8], saliency[0, 2], saliency[5, 5] = 1.0, 0.5, 0.5
    assert float(CornerMass().values(seen(saliency.tolist()))) == pytest.approx(1.0 / 2.0)


def test_even_maps() -> None:
    """What the docstrings say of a map that is even (but for one cell, so that it isn't degenerate)."""
    even = torch.ones(1, 100, 100)
    even[0, 50, 50] = 0
    evidence = Evidence(torch.rand(1, 3, 100, 100), ((0,),), even)
    assert float(BorderMass().values(evidence)) == pytest.approx(0.36, abs=1e-3)
    assert float(CornerMass().values(evidence)) == pytest.approx(0.16, abs=1e-3)
    assert float(GiniSparseness().values(evidence)) == pytest.approx(0, abs=1e-3)
    assert float(Entropy().values(evidence)) == pytest.approx(1, abs=1e-3)
