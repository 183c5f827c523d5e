"""ImageNet's layout: FOLDER/CLASS/*.jpg, where CLASS is a label of the model, its index, or a name of the mapping."""

from collections.abc import Iterator
from pathlib import Path

from evaluation.items import Item
from evaluation.readers.format import Format, Source, images_in


def read(source: Source) -> Iterator[Item]:
    """One item for each image; the first folder below FOLDER is its class. Images without one have no class."""
    for path in images_in(source.folder):
        place = path.relative_to(source.folder)
        if len(place.parts) == 1:
            yield Item(place.as_posix(), path)
            continue
        classes = source.names.find(place.parts[0])
        yield Item(place.as_posix(), path, (classes,) if classes else (), unknown=() if classes else (place.parts[0],))


def recognises(folder: Path) -> bool:
    """Whether there are images."""
    return bool(images_in(folder))


FORMAT = Format("folders", "FOLDER/<class>/*.jpg", recognises, read, strict=True)
