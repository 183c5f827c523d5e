"""The data that was named on the command line, as a list of items."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evaluation.errors import UsageError
from evaluation.items import Item, identity
from evaluation.names import ClassNames
from evaluation.readers import DIGITS, FORMATS, Format, Source
from evaluation.readers.digits import COUNT, read_digits

Target = Literal["label", "predicted"]


@dataclass(frozen=True)
class Order:
    """What was asked for.

    Attributes:
        data: a folder, or the name of built-in data.
        format: of the folder; empty: found by looking at it.
        annotations: COCO's file, where there are several.
        limit: how many images at most.
        seed: which ones.
        target: whether each image's own classes are explained, or the predicted one.
    """

    data: str
    format: str = ""
    annotations: Path | None = None
    limit: int | None = None
    seed: int = 0
    target: Target = "label"


@dataclass(frozen=True)
class Data:
    """What is evaluated.

    Attributes:
        name: of the built-in data or of the folder, without the way there.
        format: how it was read.
        items: in a fixed order.
        without_class: images that were left out because none of their classes is the model's.
        unknown: names that are no class of the model, with the number of their images.
    """

    name: str
    format: str
    items: tuple[Item, ...]
    without_class: int
    unknown: Counter[str]

    @property
    def has_boxes(self) -> bool:
        """Whether any object has a box."""
        return any(region.boxes or region.boxes is None for item in self.items for region in item.regions)

    @property
    def has_masks(self) -> bool:
        """Whether any object has a mask."""
        return any(region.mask is not None for item in self.items for region in item.regions)

    def describe(self) -> dict[str, object]:
        """For the provenance of a table."""
        return {
            "name": self.name,
            "format": self.format,
            "images": len(self.items),
            "without_class": self.without_class,
            "identity": identity(self.items),
        }


def open_data(order: Order, names: ClassNames) -> Data:
    """Read the data.

    Raises:
        UsageError: there is no such folder, it has no known format, or nothing in it can be evaluated.
    """
    if order.data in DIGITS:
        count = COUNT if order.limit is None else order.limit
        return Data(order.data, "built in", tuple(read_digits(order.data, names, count, order.seed)), 0, Counter())
    folder = Path(order.data)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {order.data}, and no built-in data of this name ({', '.join(DIGITS)})")
    kind = _format(folder, order.format)
    found = list(kind.read(Source(folder, names, order.annotations)))
    usable = [item for item in found if item.targets or order.target == "predicted"]
    unknown = Counter(name for item in found for name in item.unknown)
    _refuse(found, usable, unknown, kind, order)
    return Data(folder.resolve().name, kind.name, _some(usable, order), len(found) - len(usable), unknown)


def _format(folder: Path, name: str) -> Format:
    if name:
        if name not in FORMATS:
            raise UsageError(f"there is no format {name!r}; there are: {', '.join(FORMATS)}")
        return FORMATS[name]
    for each in FORMATS.values():
        if each.recognises(folder):
            return each
    layouts = "; ".join(each.layout for each in FORMATS.values())
    raise UsageError(f"nothing in {folder} is laid out as one of: {layouts}")


def _refuse(found: list[Item], usable: list[Item], unknown: Counter[str], kind: Format, order: Order) -> None:
    if not found:
        raise UsageError(f"there are no images in {order.data}")
    names = ", ".join(repr(name) for name, _ in unknown.most_common(5))
    if order.target == "label" and unknown and (kind.strict or not usable):
        raise UsageError(f"no classes of the model: {names}; say what they mean by --classes FILE")
    if not usable:
        raise UsageError("these images have no classes: explain the predicted ones by --target predicted")


def _some(items: list[Item], order: Order) -> tuple[Item, ...]:
    """All of them, or as many as asked for, drawn by the seed, in the order of the data."""
    if order.limit is None or order.limit >= len(items):
        return tuple(items)
    chosen = random.Random(order.seed).sample(range(len(items)), order.limit)  # noqa: S311 no secret
    return tuple(items[index] for index in sorted(chosen))


def notes(data: Data) -> Iterator[str]:
    """What a person should know of the data before the run."""
    if data.without_class:
        yield f"{data.without_class} images are left out: none of their classes is the model's"
    if data.unknown:
        names = ", ".join(
            [*(name for name, _ in data.unknown.most_common(8)), *(["..."] if len(data.unknown) > 8 else [])]
        )
        yield f"{len(data.unknown)} categories are no class of the model: {names}"
