"""The saliency metric, worked out by hand."""

import math

import pytest
import torch

from quality import Evidence, SaliencyMetric
from tests.quality.toys import Redness, reddish, seen, toy

RED = [[0.9, 0.9, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1], [0.1] * 4, [0.1] * 4]


def test_crop_around_what_is_above_the_mean() -> None:
    """Salient is the top left quarter, all of it 0.9: log(4 / 16) - log(0.9)."""
    evidence = seen([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4], RED)
    assert float(SaliencyMetric().values(evidence)) == pytest.approx(math.log(4 / 16) - math.log(0.9), abs=1e-5)


def test_crop_holds_every_salient_pixel() -> None:
    """Two far corners: the crop is the whole image, p = (4 * 0.9 + 12 * 0.1) / 16 = 0.3."""
    evidence = seen([[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4, [0.0, 0.0, 0.0, 0.6]], RED)
    assert float(SaliencyMetric().values(evidence)) == pytest.approx(math.log(1) - math.log(0.3), abs=1e-5)
    alone = SaliencyMetric(threshold=0.7)  # only the pixel of 1, which is 1 / 16 of the area and 0.9 red
    assert float(alone.values(evidence)) == pytest.approx(math.log(1 / 16) - math.log(0.9), abs=1e-5)


def test_tiny_crops_count_as_a_twentieth() -> None:
    """One pixel of 5 x 8 is less than 0.05 of the area."""
    red = [[0.1] * 8 for _ in range(5)]
    red[3][2] = 0.9
    saliency = torch.zeros(1, 5, 8)
    saliency[0, 3, 2] = 1
    evidence = Evidence(reddish(red), ((0,),), saliency, network=toy(Redness(), (5, 8)))
    assert float(SaliencyMetric().values(evidence)) == pytest.approx(math.log(0.05) - math.log(0.9), abs=1e-5)


def test_impossible_class() -> None:
    """Far below the smallest float32 probability the logarithm is still finite."""
    evidence = seen([[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.5], [0.5, 0.5]])
    net = evidence.network
    assert net is not None
    predict = net.predict
    net.predict = lambda images: predict(images) * 1000  # type: ignore[method-assign]
    value = float(SaliencyMetric().values(evidence))
    assert math.isfinite(value)
    assert value > 1000
