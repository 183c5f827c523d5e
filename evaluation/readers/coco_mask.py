"""The three forms in which COCO writes masks: polygons, and run lengths as numbers or as text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.items import Pixels

Size = tuple[int, int]
_DIGIT = 0x1F
_MORE = 0x20
_NEGATIVE = 0x10


@dataclass(frozen=True)
class CocoMask:
    """A mask in one of the three forms.

    Attributes:
        size: (height, width) of the image.
        segmentation: as JSON.
    """

    size: Size
    segmentation: str

    def load(self) -> Pixels:
        """Draw the polygons, or decode the run lengths.

        Raises:
            EvaluationError: it has none of the forms.
        """
        try:
            return decode(json.loads(self.segmentation), self.size)
        except (KeyError, TypeError, ValueError, IndexError):
            raise EvaluationError("a mask has none of COCO's forms") from None

    def identity(self) -> str:
        """Over the text."""
        return sha256(f"{self.size} {self.segmentation}".encode()).hexdigest()


def decode(segmentation: Any, size: Size) -> Pixels:
    """Any of the three forms to pixels, shape (height, width).

    Raises:
        KeyError, TypeError, ValueError, IndexError: it is none of them.
    """
    if isinstance(segmentation, list):
        whole = np.zeros(size, dtype=np.bool_)
        for polygon in segmentation:
            whole |= draw_polygon(polygon, size)
        return whole
    counts = segmentation["counts"]
    runs = run_lengths(counts) if isinstance(counts, str) else counts
    height, width = segmentation["size"]
    return from_runs(runs, (int(height), int(width)))


def from_runs(runs: Sequence[int], size: Size) -> Pixels:
    """Run lengths to pixels: column by column, beginning with those that are not set.

    Raises:
        ValueError: they don't fill the image.
    """
    lengths = np.asarray(runs, dtype=np.int64)
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise ValueError("run lengths must add up to the number of pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, lengths).reshape(size[1], size[0]).T)


def run_lengths(text: str) -> list[int]:
    """COCO's compressed text to run lengths.

    Each number is written in groups of five bits, the lowest first, as a character from "0" on; 32 more says that a
    group follows, and the highest bit of the last group is the sign. From the fourth number on it is the difference
    to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - ord("0")
        value |= (group & _DIGIT) << shift
        shift += 5
        if group & _MORE:
            continue
        if group & _NEGATIVE:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def draw_polygon(corners: Sequence[float], size: Size) -> Pixels:
    """The pixels whose centre is inside of a polygon (x, y, x, y, ...), by the even-odd rule.

    Not Pillow's: it cuts corners off to whole pixels and counts the outline in.
    """
    points: NDArray[np.float64] = np.asarray(corners, dtype=np.float64).reshape(-1, 2)
    crossings = np.zeros((size[0], size[1] + 1), dtype=np.int64)
    centres = np.arange(size[0]) + 0.5
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        rows = np.flatnonzero((centres >= min(y0, y1)) & (centres < max(y0, y1)))
        x = x0 + (centres[rows] - y0) * (x1 - x0) / (y1 - y0) if len(rows) else np.empty(0)
        first = np.ceil(x - 0.5).clip(0, size[1]).astype(np.int64)  # the first centre at or right of the edge
        crossings[rows, first] += 1
    inside: Pixels = crossings[:, :-1].cumsum(axis=1) % 2 == 1
    return inside
