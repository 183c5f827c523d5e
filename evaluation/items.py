"""What is evaluated: an image, the classes that are in it, and where their objects are."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.errors import EvaluationError

Pixels = NDArray[np.bool_]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the upright image; the pixel in row i and column j covers [j, j + 1) x [i, i + 1)."""


class Mask(Protocol):
    """The pixels of an object, read when they are needed."""

    def load(self) -> Pixels:
        """Shape (height, width) of the upright image.

        Raises:
            EvaluationError: it can't be read.
        """
        ...

    def identity(self) -> str:
        """Changes when the mask does."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayMask:
    """Pixels in memory, shape (height, width)."""

    pixels: Pixels

    def load(self) -> Pixels:
        """The pixels."""
        return self.pixels

    def identity(self) -> str:
        """Over the pixels."""
        return hashlib.sha256(np.packbits(self.pixels).tobytes()).hexdigest()


@dataclass(frozen=True)
class FileMask:
    """A picture whose pixels of some values are the object; without values, all pixels that are not 0."""

    path: Path
    values: tuple[int, ...] | None = None

    def load(self) -> Pixels:
        """Read the picture: indices of a palette, or grey values."""
        try:
            with Image.open(self.path) as picture:
                pixels = np.asarray(picture if picture.mode in ("1", "L", "P", "I", "I;16") else picture.convert("L"))
        except (OSError, SyntaxError, ValueError):
            raise EvaluationError(f"the mask {self.path.name} can't be read") from None
        return pixels != 0 if self.values is None else np.isin(pixels, self.values)

    def identity(self) -> str:
        """By name, size and values: contents are not read."""
        return f"{self.path.name} {size_of(self.path)} {self.values}"


@dataclass(frozen=True, eq=False)
class Region:
    """An object, or several of the same classes.

    Attributes:
        classes: the class indices that name it rightly; None: whichever class is explained.
        boxes: of the object; None: the tight box around its mask.
        mask: its pixels; None where they are not known.
    """

    classes: tuple[int, ...] | None
    boxes: tuple[Box, ...] | None = ()
    mask: Mask | None = None

    def shows(self, target: int) -> bool:
        """Whether it is an object of this class."""
        return self.classes is None or target in self.classes


@dataclass(frozen=True, eq=False)
class Item:
    """One image.

    Attributes:
        id: unique in the data, the same on every machine.
        image: file, or shape (height, width, 3), uint8.
        targets: for each class in the image the class indices that name it rightly; none where that is not known.
        regions: where the objects are, as far as it is known.
        unknown: names of classes that the model does not have.
    """

    id: str
    image: Path | NDArray[np.uint8]
    targets: tuple[tuple[int, ...], ...] = ()
    regions: tuple[Region, ...] = ()
    unknown: tuple[str, ...] = ()


def identity(items: Iterable[Item]) -> str:
    """`sha256:` and 64 hexadecimal digits over what is evaluated; of an image file, its size counts, not its bytes."""
    digest = hashlib.sha256()
    for item in items:
        image = (
            size_of(item.image) if isinstance(item.image, Path) else hashlib.sha256(item.image.tobytes()).hexdigest()
        )
        regions = [(each.classes, each.boxes, each.mask and each.mask.identity()) for each in item.regions]
        digest.update(json.dumps([item.id, image, item.targets, regions]).encode() + b"\n")
    return f"sha256:{digest.hexdigest()}"


def size_of(path: Path) -> int:
    """In bytes; -1 where there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def distinct(rows: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Each once, without empty ones, in the order of the first."""
    return tuple(row for row in dict.fromkeys(rows) if row)
