"""Masks in pictures: FOLDER/images and FOLDER/masks with the same names; what is not 0 in a mask is the object."""

from collections.abc import Iterator
from pathlib import Path

from evaluation.items import FileMask, Item, Region
from evaluation.readers.format import Format, Source, images_in, with_stem


def read(source: Source) -> Iterator[Item]:
    """One item for each image. A folder below `images` is its class; without one, the mask is of whatever is explained.

    The object's box is the tight one around its mask.
    """
    root = source.folder / "images"
    for path in images_in(root):
        place = path.relative_to(root)
        name = place.parts[0] if len(place.parts) > 1 else ""
        classes = source.names.find(name) if name else ()
        yield Item(
            id=place.as_posix(),
            image=path,
            targets=(classes,) if classes else (),
            regions=_regions(source.folder, place, classes or None),
            unknown=(name,) if name and not classes else (),
        )


def _regions(folder: Path, place: Path, classes: tuple[int, ...] | None) -> tuple[Region, ...]:
    mask = with_stem(folder / "masks" / place.parent, place.stem)
    return (Region(classes, None, FileMask(mask)),) if mask.is_file() else ()


def recognises(folder: Path) -> bool:
    """Whether both folders are there."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


FORMAT = Format("masks", "FOLDER/images and FOLDER/masks with the same names", recognises, read, strict=True)
