"""Makes labelled images: one digit, or two of different classes, drawn on a crop of a photograph, with exact masks.

Every random choice is made in fractions of the side, so a seed gives the same scene at every resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_store.digits.sources import CLASSES, PHOTOGRAPHS, Split, digit_fields, photographs

DEFAULT_SIDE = 96
DIGIT_SIZE = (0.22, 0.42)  # height of the 8 cells of a digit, as a fraction of the image's side
ROTATION_DEGREES = 10.0
MIN_CONTRAST = 75.0  # luminance steps, of 255, between a digit and nine tenths of its tile, where that is possible

_TILE_PER_DIGIT = 10 / 8  # a tile is the 8 cells and the empty cell around them
_GAP = 0.02  # between two tiles, as a fraction of the side
_LUMA = np.array([0.299, 0.587, 0.114])
_PREVIEW_SIDE = 32  # colours are chosen against a preview of this side, whatever the side asked for
_COLOUR_TRIES = 24


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its ground truth.

    image: (side, side, 3) uint8, RGB.
    background: (side, side, 3) uint8, the same image before any digit was drawn.
    labels: the class 0..9 of each digit.
    masks: (digits, side, side) bool, True on every pixel that the digit covers, wholly or in part.
    boxes: per digit (x0, y0, x1, y1), the tight box of its mask on pixel edges; x1 and y1 are exclusive.
    photograph: file name of the photograph behind the digits.
    """

    image: NDArray[np.uint8]
    background: NDArray[np.uint8]
    labels: tuple[int, ...]
    masks: NDArray[np.bool_]
    boxes: tuple[tuple[int, int, int, int], ...]
    photograph: str


@dataclass(frozen=True)
class _Tile:
    """A square on the image, in fractions of its side: left and top edge, and size."""

    left: float
    top: float
    size: float

    def pixels(self, side: int) -> tuple[slice, slice]:
        """Rows and columns of the tile. Rounded down throughout, so tiles that are apart stay apart."""
        size = int(self.size * side)
        left, top = int(self.left * side), int(self.top * side)
        return slice(top, top + size), slice(left, left + size)


def samples(
    split: Split, count: int, seed: int, side: int = DEFAULT_SIDE, digits: int | None = None
) -> Iterator[Sample]:
    """Yield `count` samples; the i-th depends on split, seed, side, digits and i only.

    digits: 1 or 2 in every image; None draws either with even odds.
    """
    for index in range(count):
        yield make_sample(np.random.default_rng([seed, index]), split, side, digits)


def make_sample(
    rng: np.random.Generator,
    split: Split,
    side: int = DEFAULT_SIDE,
    digits: int | None = None,
    photograph: str | None = None,
    augment: bool = False,
    clutter: float = 1.0,
) -> Sample:
    """Draw one sample.

    side: of the image, in pixels, at least 32.
    digits: 1, 2, or None for either.
    photograph: file name out of `PHOTOGRAPHS[split]`; None draws one.
    augment: vary shapes and colours more than the plain data do, for training.
    clutter: when augmenting, the share 0..1 of the photograph's contrast that is kept; 0 leaves a plain colour.
    """
    if side < 32:
        raise ValueError(f"side must be at least 32 pixels for a digit to be legible, got {side}")
    count = int(rng.integers(1, 3)) if digits is None else digits
    name = photograph or PHOTOGRAPHS[split][rng.integers(len(PHOTOGRAPHS[split]))]
    crop = _random_crop(rng, photographs(split)[PHOTOGRAPHS[split].index(name)], augment, clutter)
    preview = crop.render(_PREVIEW_SIDE, Image.Resampling.NEAREST)
    background = crop.render(side, Image.Resampling.BICUBIC)
    image = background.copy()
    labels = tuple(int(label) for label in rng.choice(CLASSES, size=count, replace=False))
    masks = np.zeros((count, side, side), dtype=bool)
    for label, tile, mask in zip(labels, _place_tiles(rng, count), masks, strict=True):
        rows_columns = tile.pixels(side)
        colour = _legible_colour(rng, preview[tile.pixels(_PREVIEW_SIDE)])
        coverage = _draw_digit(rng, split, label, image[rows_columns].shape[0], augment)
        _blend(image[rows_columns], coverage, colour)
        mask[rows_columns] = coverage > 0
    return Sample(image, background, labels, masks, tuple(tight_box(mask) for mask in masks), name)


def tight_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(H, W) mask with at least one True pixel -> (x0, y0, x1, y1) on pixel edges, x1 and y1 exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class _Crop:
    """A square of a photograph, in its pixels, and what is then done to it: quarter turns, a mirror, new colours."""

    photograph: Image.Image
    box: tuple[int, int, int, int]
    quarter_turns: int = 0
    mirrored: bool = False
    colours: list[int] | None = None

    def render(self, side: int, resampling: Image.Resampling) -> NDArray[np.uint8]:
        """(side, side, 3) uint8."""
        resized = self.photograph.resize((side, side), resampling, box=self.box, reducing_gap=1.0)
        pixels = np.rot90(np.asarray(resized.point(self.colours) if self.colours else resized), self.quarter_turns)
        return np.array(pixels[:, ::-1] if self.mirrored else pixels, order="C")


def _random_crop(rng: np.random.Generator, photograph: Image.Image, augment: bool, clutter: float) -> _Crop:
    """A square of 40 to 100 % of the shorter side, anywhere; smaller, turned and mirrored too when augmenting."""
    width, height = photograph.size
    size = int(min(width, height) * rng.uniform(0.25 if augment else 0.4, 1.0))
    left, top = int(rng.integers(0, width - size + 1)), int(rng.integers(0, height - size + 1))
    box = (left, top, left + size, top + size)
    if not augment:
        return _Crop(photograph, box)
    return _Crop(photograph, box, int(rng.integers(4)), bool(rng.random() < 0.5), _colour_change(rng, clutter))


def _colour_change(rng: np.random.Generator, clutter: float) -> list[int]:
    """New values 0..255 for the 256 of each channel: gamma, contrast and brightness; at times a negative."""
    levels = np.linspace(0.0, 1.0, 256)[:, None]
    gamma = np.exp(rng.uniform(-0.4, 0.4) + rng.uniform(-0.2, 0.2, size=3))
    low = rng.uniform(-0.1, 0.35, size=3) * rng.random()
    high = 1.0 - rng.uniform(-0.1, 0.35, size=3) * rng.random()
    table = low + (high - low) * levels**gamma
    if rng.random() < 0.25:
        table = 1.0 - table
    plain = table[rng.integers(256)]
    table = plain + clutter * (table - plain)
    return [int(value) for value in np.rint(table.clip(0.0, 1.0) * 255).T.ravel()]


def _place_tiles(rng: np.random.Generator, count: int) -> Sequence[_Tile]:
    """Tiles inside the image that never meet: apart by `_GAP` along one axis, free along the other."""
    # Two tiles of the largest size leave no room side by side: then both shrink, by a tenth at most.
    sizes = rng.uniform(*DIGIT_SIZE, size=count) * _TILE_PER_DIGIT
    slack = 1.0 - sizes.sum() - _GAP * (count - 1)
    if slack < 0:
        sizes *= (1.0 - _GAP * (count - 1)) / sizes.sum()
        slack = 0.0
    cuts = np.sort(rng.uniform(0.0, slack, size=count))
    along = cuts + np.concatenate([[0.0], np.cumsum(sizes[:-1] + _GAP)])
    across = rng.uniform(0.0, 1.0 - sizes)
    left, top = (along, across) if rng.random() < 0.5 else (across, along)
    return [_Tile(*numbers) for numbers in zip(left.tolist(), top.tolist(), sizes.tolist(), strict=True)]


def _legible_colour(rng: np.random.Generator, covered: NDArray[np.uint8]) -> NDArray[np.float64]:
    """An RGB colour (3,), 0..255, that stands out from the (h, w, 3) pixels it will be drawn on."""
    tries = rng.uniform(0.0, 255.0, size=(_COLOUR_TRIES, 3))
    # Half of the tries are pulled to white or black: plain chalk and ink are common too.
    poles = rng.choice([0.0, 255.0], size=(_COLOUR_TRIES, 1))
    pull = rng.random((_COLOUR_TRIES, 1)) * (rng.random((_COLOUR_TRIES, 1)) < 0.5)
    tries = (1.0 - pull) * tries + pull * poles
    # Judged by the worst tenth of the pixels, not by their mean: a white digit must not end on a white cup.
    distance = np.abs(tries @ _LUMA - (covered.reshape(-1, 3) @ _LUMA)[:, None])
    worst_tenth = len(distance) // 10
    contrast = np.partition(distance, worst_tenth, axis=0)[worst_tenth]
    good = np.flatnonzero(contrast >= MIN_CONTRAST)
    best = good[0] if len(good) else np.argmax(contrast)
    return np.asarray(tries[best])


def _draw_digit(rng: np.random.Generator, split: Split, label: int, size: int, augment: bool) -> NDArray[np.float32]:
    """A random digit of the class, slightly turned: coverage (size, size), 0 (paper) to 1 (ink)."""
    fields = digit_fields(split)[label]
    field = fields[rng.integers(len(fields))]
    angle = np.deg2rad(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES)) * (1.5 if augment else 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Nine points of the tile and where in the field each looks, both from -1 to 1 across.
    cuts = np.array([0, size // 2, size])
    points = np.stack(np.meshgrid(cuts, cuts), axis=-1) * (2.0 / size) - 1.0
    threshold = 0.5
    if augment:
        points = points * (1.0 + rng.uniform(-0.12, 0.2, size=2)) + rng.uniform(-0.16, 0.16, size=(3, 3, 2))
        threshold += rng.uniform(-0.13, 0.13)
    sources = (points @ turn.T + 1.0) * (field.width / 2)
    warped = field.transform((size, size), Image.Transform.MESH, _mesh(cuts, sources), Image.Resampling.BICUBIC)
    # The edge of the ink is about a pixel wide at every resolution.
    ramp = min(0.45, 0.45 * field.width / size * 0.5)
    coverage = (np.asarray(warped) - threshold) / ramp + 0.5
    return np.asarray(coverage.clip(0.0, 1.0), dtype=np.float32)


def _mesh(cuts: NDArray[np.int64], sources: NDArray[np.float64]) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Pillow's mesh: each box of the target between cuts, with the (x, y) of its source corners, anticlockwise."""
    mesh = []
    for row, column in np.ndindex(len(cuts) - 1, len(cuts) - 1):
        box = (cuts[column], cuts[row], cuts[column + 1], cuts[row + 1])
        corners = sources[[row, row + 1, row + 1, row], [column, column, column + 1, column + 1]]
        mesh.append((tuple(int(edge) for edge in box), tuple(corners.ravel().tolist())))
    return mesh


def _blend(pixels: NDArray[np.uint8], coverage: NDArray[np.float32], colour: NDArray[np.float64]) -> None:
    """Draw the colour over (h, w, 3) `pixels` in place, as far as each pixel is covered."""
    weight = coverage[..., None]
    pixels[...] = np.rint((1.0 - weight) * pixels + weight * colour).astype(np.uint8)
