"""The catalogue of real photographs: its ground truth fits its images."""

import json

import pytest

from evaluation.backend import read_image
from evaluation.data import Order, open_data
from evaluation.names import ClassNames
from tests.real import require_real

pytestmark = pytest.mark.real


def test_every_photograph_has_boxes_and_masks_that_fit() -> None:
    """Boxes lie inside of the image, masks are as large as it is, and lie inside of the boxes but for their edges."""
    root = require_real()
    labels = tuple(record["name"] for record in json.loads((root / "imagenet_classes.json").read_text()))
    data = open_data(Order(str(root)), ClassNames(labels))
    assert data.format == "catalogue"
    assert data.has_boxes
    assert data.has_masks
    for item in data.items:
        image = read_image(item)
        for region in item.regions:
            for x0, y0, x1, y1 in region.boxes or ():
                assert -1 <= x0 < x1 <= image.width + 1
                assert -1 <= y0 < y1 <= image.height + 1
            if region.mask is None or not region.boxes:
                continue
            pixels = region.mask.load()
            assert pixels.shape == (image.height, image.width)
            inside = pixels.copy()
            for x0, y0, x1, y1 in region.boxes:
                inside[max(0, int(y0) - 1) : int(y1) + 2, max(0, int(x0) - 1) : int(x1) + 2] = False
            assert inside.sum() <= 0.02 * pixels.sum(), item.id
