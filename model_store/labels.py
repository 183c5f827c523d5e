"""Reads class names out of the formats in which people keep them."""

import json
from pathlib import Path
from typing import Any

from model_store.errors import LabelsError, MissingFileError
from model_store.schema import ModelEntry


def read_labels(entry: ModelEntry, manifest_folder: Path) -> tuple[str, ...]:
    """The class names of a model in the order of the class index.

    A labels file is a JSON list of names, a JSON list of records with `index` and `name` in any order, or text with
    one name a line.

    Raises:
        MissingFileError: there is no such file.
        LabelsError: it has none of the formats.
    """
    if entry.labels_file is None:
        return entry.labels or ()
    try:
        text = (manifest_folder / entry.labels_file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingFileError(f"{entry.name}: {entry.labels_file} does not exist") from None
    if not entry.labels_file.endswith(".json"):
        return tuple(text.splitlines())
    try:
        return _from_json(json.loads(text))
    except (ValueError, TypeError, KeyError):
        message = "must be a JSON list of names, or of records with index (0, 1, 2, ...) and name"
        raise LabelsError(f"{entry.name}: {entry.labels_file} {message}") from None


def _from_json(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    if value and isinstance(value[0], dict):
        records = sorted(value, key=lambda record: record["index"])
        if [record["index"] for record in records] != list(range(len(records))):
            raise ValueError
        value = [record["name"] for record in records]
    if not all(isinstance(name, str) for name in value):
        raise TypeError
    return tuple(value)
