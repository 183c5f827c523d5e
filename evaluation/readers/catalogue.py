"""A catalogue of photographs: FOLDER/images.json, and the files that it names in FOLDER/images.

Each record of the list has `file`, `imagenet_classes` (the class indices that are right), and, as far as known, `boxes`
(`category` and `box`) and `masks` by category (`file` and `imagenet_classes`); `main_category` says which category the
record's own classes name.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.errors import UsageError
from evaluation.items import Box, FileMask, Item, Region, distinct
from evaluation.readers.format import Format, Source, read_json

FILE = "images.json"


def read(source: Source) -> Iterator[Item]:
    """One item for each record. Each category whose classes are known is a target; else the record's own classes are.

    Raises:
        UsageError: the catalogue has not this form, or names a class that the model does not have.
    """
    records = read_json(source.folder / FILE)
    try:
        for record in records:
            item = _item(source.folder / "images", record)
            if any(index >= len(source.names.labels) for row in item.targets for index in row):
                raise UsageError(f"{FILE} names classes of ImageNet that this model does not have")
            yield item
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(f"{FILE} has not the form of a catalogue") from None


def _item(folder: Path, record: Mapping[str, Any]) -> Item:
    own = tuple(record["imagenet_classes"])
    masks = record.get("masks") or {}
    boxes: dict[str, list[Box]] = {}
    for each in record.get("boxes") or []:
        if not each.get("iscrowd"):
            x0, y0, x1, y1 = map(float, each["box"])
            boxes.setdefault(each["category"], []).append((x0, y0, x1, y1))
    classes = {name: tuple(entry["imagenet_classes"]) for name, entry in masks.items()}
    if record.get("main_category"):
        classes.setdefault(record["main_category"], own)
    regions = [
        Region(indices, tuple(boxes.get(name, ())), FileMask(folder / masks[name]["file"]) if name in masks else None)
        for name, indices in classes.items()
    ]
    targets = distinct(classes.values()) or distinct([own])
    return Item(str(record["file"]), folder / record["file"], targets, tuple(regions))


def recognises(folder: Path) -> bool:
    """Whether there is a catalogue."""
    return (folder / FILE).is_file()


FORMAT = Format("catalogue", "FOLDER/images.json and FOLDER/images", recognises, read)
