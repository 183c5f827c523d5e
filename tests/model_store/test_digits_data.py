"""The made images: exact ground truth, reproducible, and strictly split."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_digits

from model_store.digits.data import DIGIT_SIZE, Sample, make_sample, samples, tight_box
from model_store.digits.samples import held_out_pairs
from model_store.digits.sources import CLASSES, HELD_OUT_EVERY, PHOTOGRAPHS, digit_fields, digit_indices

SIDES = (32, 96, 200)


@pytest.fixture(scope="module")
def made() -> list[Sample]:
    """Plain and augmented samples of both splits, at several resolutions, of one digit and of two."""
    plain = [sample for side in SIDES for sample in samples("held_out", 40, seed=5, side=side)]
    rng = np.random.default_rng(6)
    return plain + [make_sample(rng, "train", side, augment=True) for side in SIDES for _ in range(40)]


def test_fields_have_the_promised_shapes_types_and_ranges(made: list[Sample]) -> None:
    """Images are square uint8 RGB, with one label, mask and box per digit."""
    for sample in made:
        side = sample.image.shape[0]
        assert side in SIDES
        assert sample.image.shape == sample.background.shape == (side, side, 3)
        assert sample.image.dtype == sample.background.dtype == np.uint8
        assert sample.masks.dtype == np.bool_
        assert sample.masks.shape == (len(sample.labels), side, side)
        assert len(sample.boxes) == len(sample.labels) in (1, 2)
        assert set(sample.labels) <= set(range(CLASSES))


def test_boxes_hold_their_masks_tightly(made: list[Sample]) -> None:
    """No pixel of a mask lies outside its box, and each of the box's four edges touches the mask."""
    for sample in made:
        for mask, (x0, y0, x1, y1) in zip(sample.masks, sample.boxes, strict=True):
            inside = mask[y0:y1, x0:x1]
            assert inside.sum() == mask.sum() > 0
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_box_of_a_hand_made_mask() -> None:
    """Boxes are counted on pixel edges: x to the right, y down, the far edges exclusive."""
    mask = np.zeros((6, 8), dtype=bool)
    mask[2, 5] = mask[4, 3] = True
    assert tight_box(mask) == (3, 2, 6, 5)


def test_two_digits_differ_and_their_boxes_do_not_meet(made: list[Sample]) -> None:
    """In an image of two digits the classes differ and the boxes, and so the masks, are disjoint."""
    pairs = [sample for sample in made if len(sample.labels) == 2]
    assert len(pairs) > 50
    for sample in pairs:
        assert sample.labels[0] != sample.labels[1]
        (left0, top0, right0, bottom0), (left1, top1, right1, bottom1) = sample.boxes
        assert right0 <= left1 or right1 <= left0 or bottom0 <= top1 or bottom1 <= top0
        assert not (sample.masks[0] & sample.masks[1]).any()


def test_pixels_outside_all_masks_are_the_background(made: list[Sample]) -> None:
    """A digit changes no pixel that its mask does not claim."""
    for sample in made:
        outside = ~sample.masks.any(axis=0)
        assert np.array_equal(sample.image[outside], sample.background[outside])


def test_masked_pixels_are_the_digit(made: list[Sample]) -> None:
    """Nearly every pixel of a mask really was painted: masks claim no margin."""
    for sample in made:
        covered = sample.masks.any(axis=0)
        changed = (sample.image != sample.background).any(axis=2)
        assert changed[covered].mean() > 0.8


def test_digits_are_of_the_stated_size() -> None:
    """A plain digit's longer side is at most the largest size with its slight turn, and never a speck."""
    for sample in samples("held_out", 100, seed=7, side=200):
        for x0, y0, x1, y1 in sample.boxes:
            longer = max(x1 - x0, y1 - y0) / 200
            assert 0.6 * DIGIT_SIZE[0] < longer < 1.2 * DIGIT_SIZE[1]


def test_same_seed_gives_the_same_samples() -> None:
    """Every field repeats under the same seed, and another seed gives other images."""
    first, again, other = (list(samples("train", 6, seed=seed)) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.image, two.image)
        assert np.array_equal(one.masks, two.masks)
        assert (one.labels, one.boxes, one.photograph) == (two.labels, two.boxes, two.photograph)
    assert not any(np.array_equal(one.image, two.image) for one, two in zip(first, other, strict=True))


def test_a_sample_does_not_depend_on_how_many_are_asked_for() -> None:
    """The third of five is the third of three."""
    *_, last = samples("train", 3, seed=1)
    assert np.array_equal(list(samples("train", 5, seed=1))[2].image, last.image)


def test_same_seed_gives_the_same_scene_at_another_side() -> None:
    """Labels and photograph repeat, and boxes scale with the side, up to rounding."""
    small, large = list(samples("held_out", 20, seed=3, side=96)), list(samples("held_out", 20, seed=3, side=384))
    for one, four in zip(small, large, strict=True):
        assert (one.labels, one.photograph) == (four.labels, four.photograph)
        assert np.abs(np.array(one.boxes) * 4 - np.array(four.boxes)).max() <= 8


def test_digits_are_split_strictly() -> None:
    """Each of the 1,797 digits is in exactly one split, a fifth of each class held out."""
    train, held_out = (np.concatenate(digit_indices(split)) for split in ("train", "held_out"))
    assert not set(train) & set(held_out)
    assert sorted([*train, *held_out]) == list(range(1797))
    for label, (seen, unseen) in enumerate(zip(digit_indices("train"), digit_indices("held_out"), strict=True)):
        assert (load_digits().target[np.concatenate([seen, unseen])] == label).all()
        assert len(unseen) == pytest.approx((len(seen) + len(unseen)) / HELD_OUT_EVERY, abs=1)


def test_no_digit_is_in_both_splits_twice_over() -> None:
    """No held-out drawing is a copy of a training one under another index."""
    seen = {field.tobytes() for fields in digit_fields("train") for field in fields}
    assert not any(field.tobytes() in seen for fields in digit_fields("held_out") for field in fields)


def test_photographs_are_split_strictly(made: list[Sample]) -> None:
    """No photograph is in both splits, and samples use those of their own split only."""
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["held_out"])
    assert {sample.photograph for sample in made[:120]} <= set(PHOTOGRAPHS["held_out"])
    assert {sample.photograph for sample in made[120:]} <= set(PHOTOGRAPHS["train"])


def test_held_out_pairs_have_two_digits() -> None:
    """The iterator for localisation studies yields the number asked for, each with two digits."""
    pairs = list(held_out_pairs(5, seed=1, side=64))
    assert [sample.masks.shape for sample in pairs] == [(2, 64, 64)] * 5
    assert all(not np.array_equal(one.image, two.image) for one, two in pairwise(pairs))


def test_too_small_a_side_is_refused() -> None:
    """Below 32 pixels no digit is legible, and the error says so."""
    with pytest.raises(ValueError, match="at least 32 pixels"):
        make_sample(np.random.default_rng(0), "train", side=16)
