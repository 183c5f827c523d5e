"""What a reader is."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.errors import UsageError
from evaluation.items import Item
from evaluation.names import ClassNames

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class Source:
    """What to read.

    Attributes:
        folder: with the data.
        names: what its names mean for the model.
        annotations: the file of annotations, where the folder has several.
    """

    folder: Path
    names: ClassNames
    annotations: Path | None = None


@dataclass(frozen=True)
class Format:
    """A way to lay out images with their ground truth.

    Attributes:
        name: for the command line.
        layout: in words.
        recognises: whether a folder is laid out so.
        read: the items of a folder, always in the same order.
        strict: whether a class that the model does not have is a mistake, and not only another object.
    """

    name: str
    layout: str
    recognises: Callable[[Path], bool]
    read: Callable[[Source], Iterator[Item]]
    strict: bool = False


def images_in(folder: Path) -> list[Path]:
    """Every image below a folder, sorted by its path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def with_stem(folder: Path, stem: str) -> Path:
    """The image of a folder with this stem; the JPEG that should be there where there is none."""
    candidates = (folder / f"{stem}{suffix}" for ending in SUFFIXES for suffix in (ending, ending.upper()))
    return next((path for path in candidates if path.is_file()), folder / f"{stem}.jpg")


def read_json(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
        UsageError: it can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"there is no file {path}") from None
    except ValueError:
        raise UsageError(f"{path.name} is not JSON") from None
