"""Pascal VOC: Annotations/*.xml with boxes, JPEGImages, and masks in SegmentationObject or SegmentationClass.

Folders inside Annotations are followed, as ImageNet's boxes need it: Annotations/n01440764/x.xml belongs to
JPEGImages/n01440764/x.JPEG.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from evaluation.errors import UsageError
from evaluation.items import Box, FileMask, Item, Region, distinct
from evaluation.readers.format import Format, Source, with_stem

# The values of SegmentationClass, from 1.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def read(source: Source) -> Iterator[Item]:
    """One item for each annotation file.

    Raises:
        UsageError: one is not VOC's XML.
    """
    annotations = source.folder / "Annotations"
    for path in sorted(annotations.rglob("*.xml")):
        place = path.relative_to(annotations).with_suffix("")
        try:
            yield _item(source, place, ElementTree.parse(path).getroot())  # noqa: S314 expat limits expansion itself
        except (ElementTree.ParseError, TypeError, ValueError):
            raise UsageError(f"{path.name} is not a VOC annotation") from None


def _item(source: Source, place: Path, root: ElementTree.Element) -> Item:
    regions, unknown = [], []
    for position, node in enumerate(root.findall("object")):
        name = node.findtext("name", "").strip()
        classes = source.names.find(name)
        if classes:
            regions.append(Region(classes, (_box(node),), _mask(source.folder, place, position, name)))
        else:
            unknown.append(name)
    return Item(
        id=place.as_posix(),
        image=with_stem(source.folder / "JPEGImages" / place.parent, place.name),
        targets=distinct(region.classes or () for region in regions),
        regions=tuple(regions),
        unknown=tuple(dict.fromkeys(unknown)),
    )


def _box(node: ElementTree.Element) -> Box:
    """VOC counts pixels from 1, and its last ones belong to the box."""
    corners = [float(node.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]  # type: ignore[arg-type]
    return corners[0] - 1, corners[1] - 1, corners[2], corners[3]


def _mask(folder: Path, place: Path, position: int, name: str) -> FileMask | None:
    """The pixels of the object, where they are marked; else those of its class. The border (255) belongs to nobody."""
    objects = folder / "SegmentationObject" / place.parent / f"{place.name}.png"
    if objects.is_file():
        return FileMask(objects, (position + 1,))
    classes = folder / "SegmentationClass" / place.parent / f"{place.name}.png"
    if classes.is_file() and name in VOC_CLASSES:
        return FileMask(classes, (VOC_CLASSES.index(name) + 1,))
    return None


def recognises(folder: Path) -> bool:
    """Whether both folders are there."""
    return (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()


FORMAT = Format("voc", "FOLDER/Annotations/*.xml and FOLDER/JPEGImages", recognises, read)
