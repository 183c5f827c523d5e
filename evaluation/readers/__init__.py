"""Folders to items. A new format is one file with a `Format`, and one line here."""

from evaluation.readers import catalogue, coco, folders, masks, voc
from evaluation.readers.digits import DIGITS
from evaluation.readers.format import Format, Source

# In the order in which a folder is looked at: the first that recognises it reads it.
FORMATS: dict[str, Format] = {
    each.name: each for each in (voc.FORMAT, coco.FORMAT, catalogue.FORMAT, masks.FORMAT, folders.FORMAT)
}

__all__ = ["DIGITS", "FORMATS", "Format", "Source"]
