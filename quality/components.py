"""Connected components of masks and the tight boxes around them, for many masks at once.

A row of pixels is cut into runs of set pixels. Runs of neighbouring rows that touch belong together, and what belongs
together is found by hooking each run to the smallest index in reach until nothing changes, which takes about as many
rounds as the logarithm of their number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Components:
    """The connected components of a stack of masks, mask by mask, in each in the order of their first pixel.

    Attributes:
        mask: shape (n,), index of the mask that each is in.
        area: shape (n,), number of pixels.
        boxes: shape (n, 4), the tight boxes: x0, y0, x1, y1, the last two exclusive.
    """

    mask: Integers
    area: Integers
    boxes: Integers

    def largest_boxes(self, count: int) -> Integers:
        """The box of the largest component of each of `count` masks, the first one of equals; zeros where none."""
        boxes = np.zeros((count, 4), dtype=np.int64)
        order = np.lexsort((-np.arange(len(self.area)), self.area))
        boxes[self.mask[order]] = self.boxes[order]  # the last one written stays: the largest, the first of equals
        return boxes


def components(masks: NDArray[np.bool_], connectivity: int = 8) -> Components:
    """Find the connected components.

    Args:
        masks: shape (n, height, width).
        connectivity: 4 (pixels touch at a side) or 8 (or at a corner).
    """
    row, x0, x1, pitch = _runs(masks)
    label = _label(row * pitch + x0, row * pitch + x1, pitch, reach=int(connectivity == 8))
    roots, component = np.unique(label, return_inverse=True)
    y = row % (masks.shape[1] + 1)
    boxes = np.empty((len(roots), 4), dtype=np.int64)
    for column, (extreme, values) in enumerate(
        ((np.minimum, x0), (np.minimum, y), (np.maximum, x1), (np.maximum, y + 1))
    ):
        boxes[:, column] = values[roots]
        extreme.at(boxes[:, column], component, values)
    area = np.zeros(len(roots), dtype=np.int64)
    np.add.at(area, component, x1 - x0)
    return Components(row[roots] // (masks.shape[1] + 1), area, boxes)


def _runs(masks: NDArray[np.bool_]) -> tuple[Integers, Integers, Integers, int]:
    """Every run of set pixels: its row (with a blank one after each mask), start, exclusive end; and the row pitch."""
    count, height, width = masks.shape
    padded = np.zeros((count, height + 1, width + 2), dtype=np.int8)
    padded[:, :height, 1:-1] = masks
    change = np.diff(padded.reshape(-1, width + 2), axis=1)
    row, start = np.nonzero(change == 1)
    _, end = np.nonzero(change == -1)
    return row.astype(np.int64), start.astype(np.int64), end.astype(np.int64), width + 2


def _label(start: Integers, end: Integers, pitch: int, reach: int) -> Integers:
    """For each run the smallest index of a run that it is connected with.

    Runs are given by their places in one long line, in ascending order. The runs above run b that touch it are those
    that end behind b's start and start before b's end, one row up; `reach` lets them touch at a corner.
    """
    low = np.searchsorted(end, start - pitch - reach, side="right")
    high = np.searchsorted(start, end - pitch + reach, side="left")
    touching = np.maximum(high - low, 0)
    below = np.repeat(np.arange(len(start)), touching)
    within = np.arange(len(below)) - np.repeat(np.cumsum(touching) - touching, touching)
    above = np.repeat(low, touching) + within
    label = np.arange(len(start))
    while True:
        first, second = label[above], label[below]
        differ = first != second
        if not differ.any():
            return label
        np.minimum.at(label, np.maximum(first, second)[differ], np.minimum(first, second)[differ])
        while not np.array_equal(label, label[label]):
            label = label[label]


def intersection_over_union(
    a: NDArray[np.floating] | Integers, b: NDArray[np.floating] | Integers
) -> NDArray[np.float64]:
    """IoU of every box in `a`, shape (n, 4), with every one in `b`, shape (m, 4): shape (n, m). Empty boxes give 0."""
    a, b = a[:, None].astype(np.float64), b[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared: NDArray[np.float64] = sides.clip(min=0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).clip(min=0).prod(axis=-1) for box in (a, b)]
    union = areas[0] + areas[1] - shared
    share: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return share
