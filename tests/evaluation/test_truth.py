"""Boxes and masks take the way of the image: worked out by hand, and against the image itself."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.errors import EvaluationError
from evaluation.items import ArrayMask, FileMask, Item, Region
from evaluation.truth import View, boxes_of, mask_of, tight_box, with_truth
from handlers.preprocess import geometry, to_input
from model_store.schema import Preprocessing
from quality import Need
from tests.evaluation.worlds import write_mask

STATISTICS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
BOTH = frozenset({Need.BOXES, Need.MASKS})


def view(image: tuple[int, int], **preprocessing: object) -> View:
    way = geometry(image, Preprocessing(**{**STATISTICS, **preprocessing}))  # type: ignore[arg-type]
    return View(way.to_image(image), way.size, image)


def test_a_box_is_squashed_with_the_image() -> None:
    """An image of 80 x 20 to 40 x 40: x is halved and y doubled."""
    squash = view((20, 80), size=(40, 40))
    assert squash.boxes([(10, 5, 30, 10), (0, 0, 80, 20)]).tolist() == [[5, 10, 15, 20], [0, 0, 40, 40]]


def test_a_box_is_cut_with_the_image() -> None:
    """80 x 40 becomes 40 x 20, of which the middle 16 x 16 begin at (12, 2).

    A box of the image at 30 to 70 is at 15 to 35, and at 3 to 16 (cut off) of the crop.
    """
    crop = view((40, 80), size=(16, 16), resize="crop", short_side=20)
    assert crop.boxes([(30, 6, 70, 20)]).tolist() == [[3, 1, 16, 8]]
    assert crop.boxes([(0, 0, 20, 40)]).tolist() == []
    assert crop.boxes([]).shape == (0, 4)


def test_a_mask_is_cut_with_the_image() -> None:
    """The same crop: pixels 30 to 70 by 6 to 20 of the image are those of the box above."""
    crop = view((40, 80), size=(16, 16), resize="crop", short_side=20)
    pixels = np.zeros((40, 80), dtype=np.bool_)
    pixels[6:20, 30:70] = True
    mask = crop.mask(pixels)
    rows, columns = np.nonzero(mask.numpy())
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (3, 1, 16, 8)
    assert mask.sum() == 13 * 7


@pytest.mark.parametrize("image", [(50, 37), (31, 90), (64, 64)])
@pytest.mark.parametrize("crop", [True, False])
def test_boxes_and_masks_lie_where_the_image_shows_the_object(image: tuple[int, int], crop: bool) -> None:
    """A white object in a black image: no shift of the mask by a pixel fits better what the network sees."""
    chosen = {"resize": "crop", "short_side": 30} if crop else {}
    preprocessing = Preprocessing(size=(24, 28), **chosen, **STATISTICS)  # type: ignore[arg-type]
    pixels = np.zeros(image, dtype=np.bool_)
    x0, y0, x1, y1 = image[1] // 4, image[0] // 3, image[1] // 4 + image[1] // 2, image[0] // 3 + image[0] // 3
    pixels[y0:y1, x0:x1] = True
    way = geometry(image, preprocessing)
    picture = Image.fromarray(np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8) * 255)
    seen = to_input(picture, way, preprocessing)[0].numpy()
    here = View(way.to_image(image), way.size, image)
    mask = here.mask(pixels).numpy()
    misfit = {
        (down, right): np.abs(np.roll(mask, (down, right), axis=(0, 1)) - seen).sum()
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    assert misfit[0, 0] == min(misfit.values())
    ((left, top, right, bottom),) = here.boxes([(x0, y0, x1, y1)]).tolist()
    rows, columns = np.nonzero(seen > 0.5)
    assert (columns.min(), rows.min()) == pytest.approx((left, top), abs=0.6)
    assert (columns.max() + 1, rows.max() + 1) == pytest.approx((right, bottom), abs=0.6)


def test_each_class_has_its_own_objects() -> None:
    """A class gets the boxes and the masks of its objects, and those that are of any class."""
    left, right = np.zeros((2, 4, 4), dtype=np.bool_)
    left[:, 0], right[:, 3] = True, True
    regions = (
        Region((1, 2), ((0, 0, 1, 4),), ArrayMask(left)),
        Region((3,), ((3, 0, 4, 4),), ArrayMask(right)),
        Region(None, ((1, 1, 2, 2),)),
    )
    item = Item("a", np.zeros((4, 4, 3), np.uint8), regions=regions)
    whole = view((4, 4), size=(4, 4))
    assert [len(boxes_of(item, index, whole)) for index in (0, 1, 2, 3)] == [1, 2, 2, 2]
    assert [mask_of(item, index, whole)[0].tolist().count(True) for index in (0, 1, 2, 3)] == [0, 1, 1, 1]
    assert mask_of(item, 3, whole)[0].tolist() == [False, False, False, True]


def test_ground_truth_is_read_as_far_as_it_is_needed(tmp_path: Path) -> None:
    """A mask gives a box where none is; nothing is read for metrics that need neither."""
    mask = FileMask(write_mask(tmp_path / "m.png", [[0, 0, 0], [0, 7, 7]]))
    item = Item("a", np.zeros((2, 3, 3), np.uint8), regions=(Region(None, None, mask),))
    both = with_truth(item, (2, 3), BOTH).regions[0]
    assert both.boxes == ((1, 1, 3, 2),)
    assert isinstance(both.mask, ArrayMask)
    only_masks = with_truth(item, (2, 3), frozenset({Need.MASKS})).regions[0]
    assert (only_masks.boxes, isinstance(only_masks.mask, ArrayMask)) == ((), True)
    (tmp_path / "m.png").unlink()
    assert with_truth(item, (2, 3), frozenset({Need.NETWORK})).regions[0].mask is None
    with pytest.raises(EvaluationError, match="can't be read"):
        with_truth(item, (2, 3), BOTH)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    """It may be of another image: it isn't stretched."""
    mask = FileMask(write_mask(tmp_path / "m.png", [[0, 0, 0], [0, 7, 7]]))
    item = Item("a", np.zeros((2, 3, 3), np.uint8), regions=(Region(None, (), mask),))
    with pytest.raises(EvaluationError, match="the mask has 3 x 2 pixels, the image 2 x 3"):
        with_truth(item, (3, 2), BOTH)


def test_an_empty_mask_has_no_box() -> None:
    """Nothing is around nothing."""
    assert tight_box(np.zeros((3, 3), dtype=np.bool_)) == ()
