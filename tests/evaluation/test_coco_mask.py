"""COCO's three forms of masks, against pixels worked out by hand and the slow definition."""

import json

import numpy as np
import pytest

from evaluation.errors import EvaluationError
from evaluation.readers.coco_mask import CocoMask, decode, draw_polygon, run_lengths

# Column by column: 2 not set, 3 set, 4 not set, 1 set, 2 not set.
RUNS = [2, 3, 4, 1, 2]
PIXELS = [[0, 1, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]]


def compress(runs: list[int]) -> str:
    """The other way round, from the definition: groups of five bits of each run's difference to the last but one."""
    text = ""
    for position, run in enumerate(runs):
        value = run - runs[position - 2] if position > 2 else run
        while True:
            group, value = value & 31, value >> 5
            done = (value == 0 and group < 16) or (value == -1 and group >= 16)
            text += chr(48 + (group if done else group + 32))
            if done:
                break
    return text


def test_run_lengths_go_down_the_columns() -> None:
    """As numbers."""
    assert decode({"size": [3, 4], "counts": RUNS}, (3, 4)).astype(int).tolist() == PIXELS


def test_compressed_run_lengths_are_the_same() -> None:
    """As text: 2, 3, 4 are characters of their own, then 1 - 3 = -2 is 30 and 2 - 4 = -2 is 30."""
    assert decode({"size": [3, 4], "counts": "234NN"}, (3, 4)).astype(int).tolist() == PIXELS
    assert compress(RUNS) == "234NN"


def test_compressed_run_lengths_of_any_size() -> None:
    """Numbers of several groups, growing and shrinking."""
    runs = np.random.default_rng(0).integers(0, 70000, 200).tolist()
    assert run_lengths(compress(runs)) == runs


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [3, 4], "counts": [5, 5]},
        {"size": [3, 4], "counts": [-1, 13]},
        {"counts": [12]},
        [[1, 2, 3]],
        "234",
        {"size": [3, 4], "counts": "2"},
    ],
)
def test_other_forms_are_refused(segmentation: object) -> None:
    """What doesn't fill the image, or is something else."""
    with pytest.raises(EvaluationError, match="COCO's forms"):
        CocoMask((3, 4), json.dumps(segmentation)).load()


def inside(polygon: list[float], x: float, y: float) -> bool:
    """Even-odd rule, edge by edge."""
    result = False
    for i in range(0, len(polygon), 2):
        x0, y0 = polygon[i - 2 : i] if i else polygon[-2:]
        x1, y1 = polygon[i : i + 2]
        if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
            result = not result
    return result


@pytest.mark.parametrize("seed", range(5))
def test_a_polygon_covers_the_pixels_whose_centres_are_inside(seed: int) -> None:
    """Also where it crosses itself and leaves the image; compared pixel by pixel."""
    polygon = np.random.default_rng(seed).uniform(-3, 15, 14).tolist()
    expected = [[inside(polygon, column + 0.5, row + 0.5) for column in range(12)] for row in range(9)]
    assert draw_polygon(polygon, (9, 12)).tolist() == expected


def test_a_rectangle_covers_exactly_its_pixels() -> None:
    """No outline is added: [2, 5) x [1, 3) has six pixels, and half a pixel more at the right adds a column."""
    assert np.argwhere(draw_polygon([2, 1, 5, 1, 5, 3, 2, 3], (4, 8))).tolist() == [
        [row, column] for row in (1, 2) for column in (2, 3, 4)
    ]
    assert draw_polygon([2, 1, 5.6, 1, 5.6, 3, 2, 3], (4, 8)).sum() == 8


def test_several_polygons_are_one_mask() -> None:
    """Their union: where they overlap stays set."""
    square = [0, 0, 2, 0, 2, 2, 0, 2]
    assert decode([square, [1, 0, 3, 0, 3, 2, 1, 2]], (2, 4)).astype(int).tolist() == [[1, 1, 1, 0]] * 2
