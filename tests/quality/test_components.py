"""Connected components, against a flood fill."""

import numpy as np
import pytest

from quality.components import components, intersection_over_union


def flood(mask: np.ndarray, connectivity: int) -> list[tuple[int, tuple[int, int, int, int]]]:
    """(area, box) of each component in the order of its first pixel, by walking from pixel to pixel."""
    left = {(i, j) for i, j in np.argwhere(mask).tolist()}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        stack, members = [start], []
        left.remove(start)
        while stack:
            i, j = stack.pop()
            members.append((i, j))
            for a in (-1, 0, 1):
                for b in (-1, 0, 1):
                    place = (i + a, j + b)
                    if place in left and (connectivity == 8 or a == 0 or b == 0):
                        left.remove(place)
                        stack.append(place)
        rows, columns = zip(*members, strict=True)
        found.append((len(members), (min(columns), min(rows), max(columns) + 1, max(rows) + 1)))
    return found


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("density", [0.1, 0.4, 0.55, 0.8])
def test_agrees_with_a_flood_fill(connectivity: int, density: float) -> None:
    """Areas, boxes and their order, for many masks at once, up to the edges."""
    masks = np.random.default_rng(3).random((40, 13, 17)) < density
    found = components(masks, connectivity)
    for index, mask in enumerate(masks):
        expected = flood(mask, connectivity)
        own = found.mask == index
        assert list(zip(found.area[own].tolist(), map(tuple, found.boxes[own].tolist()), strict=True)) == expected
        largest = max(expected, key=lambda entry: entry[0])[1]  # max takes the first of equals
        assert tuple(found.largest_boxes(len(masks))[index]) == largest


def test_a_spiral_is_one_component() -> None:
    """However long the way is."""
    side = 41
    mask = np.zeros((1, side, side), dtype=bool)
    i, j, di, dj = 0, 0, 0, 1
    mask[0, 0, 0] = True
    for length in [side - 1] * 3 + [each for short in range(side - 3, 0, -2) for each in (short, short)]:
        for _ in range(length):
            i, j = i + di, j + dj
            mask[0, i, j] = True
        di, dj = dj, -di
    assert len(flood(mask[0], 4)) == 1
    assert components(mask, 4).area.tolist() == [mask.sum()]


def test_corners() -> None:
    """Two pixels that touch at a corner are one component of eight neighbours and two of four."""
    mask = np.array([[[True, False], [False, True]]])
    assert components(mask, 8).area.tolist() == [2]
    assert components(mask, 4).area.tolist() == [1, 1]
    assert components(mask[:, :, ::-1], 8).boxes.tolist() == [[0, 0, 2, 2]]


def test_empty() -> None:
    """No pixels, no components, and a box of zeros."""
    found = components(np.zeros((2, 3, 3), dtype=bool))
    assert len(found.area) == 0
    assert found.largest_boxes(2).tolist() == [[0] * 4] * 2


def test_intersection_over_union() -> None:
    """Two 2 x 2 boxes that share one pixel: 1 / 7; apart: 0; empty: 0."""
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]])
    b = np.array([[1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 4.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(intersection_over_union(a, b), [[1 / 7, 0, 0], [0, 0, 0]])
