"""COCO: annotations/instances_*.json with boxes and masks, and the folder of its images."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.errors import UsageError
from evaluation.items import Item, Region, distinct
from evaluation.readers.coco_mask import CocoMask
from evaluation.readers.format import Format, Source, read_json


def read(source: Source) -> Iterator[Item]:
    """One item for each image of the annotations.

    A crowd has no box (it is around many objects), but its pixels belong to the class.

    Raises:
        UsageError: the annotations are not COCO's, or there are several files of them.
    """
    path = source.annotations or _annotations(source.folder)
    document = read_json(path)
    try:
        names = {category["id"]: str(category["name"]) for category in document["categories"]}
        of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in document["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        images = _images(source.folder, path)
        for image in sorted(document["images"], key=lambda each: str(each["file_name"])):
            yield _item(source, image, of_image[image["id"]], names, images)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(f"{path.name} has not the form of COCO's instances") from None


def _item(
    source: Source,
    image: Mapping[str, Any],
    annotations: list[dict[str, Any]],
    names: Mapping[Any, str],
    images: Path,
) -> Item:
    size = int(image["height"]), int(image["width"])
    regions, unknown = [], []
    for annotation in annotations:
        name = names[annotation["category_id"]]
        if classes := source.names.find(name):
            regions.append(_region(annotation, classes, size))
        else:
            unknown.append(name)
    return Item(
        id=str(image["file_name"]),
        image=images / image["file_name"],
        targets=distinct(region.classes or () for region in regions),
        regions=tuple(regions),
        unknown=tuple(dict.fromkeys(unknown)),
    )


def _region(annotation: Mapping[str, Any], classes: tuple[int, ...], size: tuple[int, int]) -> Region:
    segmentation = annotation.get("segmentation")
    mask = CocoMask(size, json.dumps(segmentation)) if segmentation else None
    if annotation.get("iscrowd"):
        return Region(classes, (), mask)
    if "bbox" not in annotation:
        return Region(classes, None, mask)
    x, y, width, height = map(float, annotation["bbox"])
    return Region(classes, ((x, y, x + width, y + height),), mask)


def _candidates(folder: Path) -> list[Path]:
    return sorted([*folder.glob("instances*.json"), *folder.glob("annotations/instances*.json")])


def _annotations(folder: Path) -> Path:
    found = _candidates(folder)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UsageError(f"name COCO's file by --annotations FILE; in the folder there are: {names}")
    return found[0]


def _images(folder: Path, annotations: Path) -> Path:
    """FOLDER/val2017 for instances_val2017.json, FOLDER/images, or FOLDER itself."""
    split = annotations.stem.partition("_")[2]
    candidates = [folder / split, folder / "images" / split, folder / "images"] if split else [folder / "images"]
    return next((path for path in candidates if path.is_dir()), folder)


def recognises(folder: Path) -> bool:
    """Whether there are instances."""
    return bool(_candidates(folder))


FORMAT = Format("coco", "FOLDER/annotations/instances_*.json and its images", recognises, read)
