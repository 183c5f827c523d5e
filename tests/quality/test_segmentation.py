"""Pixel accuracy, mIoU and average precision: by hand, and against scikit-learn."""

import pytest
import torch

from quality import AveragePrecision, Evidence, MeanIoU, PixelAccuracy
from tests.quality.toys import seen

MAP = [[1.0, 0.8, 0.1], [0.6, 0.0, 0.0]]  # mean 2.5 / 6 = 0.417: above are 1, 0.8 and 0.6
MASK = torch.tensor([[[True, False, True], [True, False, False]]])


def test_pixel_accuracy() -> None:
    """Wrong are the pixel of 0.8 and that of 0.1: 4 of 6 right."""
    assert float(PixelAccuracy().values(seen(MAP, masks=MASK))) == pytest.approx(4 / 6)


def test_mean_iou() -> None:
    """Object: 2 shared of 4; background: 2 shared of 4."""
    assert float(MeanIoU().values(seen(MAP, masks=MASK))) == pytest.approx((2 / 4 + 2 / 4) / 2)
    larger = MASK.clone()
    larger[0, 0, 1] = True  # object: 3 of 4; background: 2 of 3
    assert float(MeanIoU().values(seen(MAP, masks=larger))) == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_average_precision() -> None:
    """In order 1 (hit), 0.8, 0.6 (hit), 0.1 (hit): (1 / 1 + 2 / 3 + 3 / 4) / 3."""
    assert float(AveragePrecision().values(seen(MAP, masks=MASK))) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_average_precision_of_equal_pixels() -> None:
    """One hit among two equal highest: at recall 1 the precision is 1 / 2, whichever comes first."""
    for hit in (0, 1):
        mask = torch.zeros(1, 1, 4, dtype=torch.bool)
        mask[0, 0, hit] = True
        assert float(AveragePrecision().values(seen([[1.0, 1.0, 0.0, 0.0]], masks=mask))) == 0.5


@pytest.mark.oracle
def test_average_precision_agrees_with_scikit_learn() -> None:
    """On many maps with and without equal pixels."""
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(2)
    maps = torch.cat(
        [torch.rand(10, 9, 8, generator=generator), torch.randint(0, 5, (10, 9, 8), generator=generator).float()]
    )
    masks = torch.rand(20, 9, 8, generator=generator) < 0.3
    evidence = Evidence(torch.rand(20, 3, 9, 8), ((0,),) * 20, maps, masks=masks)
    expected = [
        metrics.average_precision_score(mask.flatten(), each.flatten()) for mask, each in zip(masks, maps, strict=True)
    ]
    assert AveragePrecision().values(evidence).tolist() == pytest.approx(expected)


def test_empty_masks() -> None:
    """An object without pixels has no figure; one that fills the image has, without a background to overlap with."""
    for metric in (PixelAccuracy(), MeanIoU(), AveragePrecision()):
        assert metric.values(seen(MAP, masks=torch.zeros_like(MASK))).isnan().all()
    assert float(MeanIoU().values(seen(MAP, masks=torch.ones_like(MASK)))) == pytest.approx((3 / 6 + 0) / 2)
