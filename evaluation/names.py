"""Names of folders and categories to class indices of the model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.errors import UsageError


@dataclass(frozen=True, eq=False)
class ClassNames:
    """How data may call the classes of a model.

    Attributes:
        labels: of the model, in the order of the class index.
        mapping: names to the class indices that they stand for; looked at before the labels.
    """

    labels: tuple[str, ...]
    mapping: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def find(self, name: str) -> tuple[int, ...]:
        """The class indices of a name: of the mapping, of a label, of one of a label's synonyms, or a class index.

        Returns:
            Nothing where the model has no such class.

        Raises:
            UsageError: several labels have this name.
        """
        if name in self.mapping:
            return self.mapping[name]
        for table, key in ((self._exact, name), (self._simple, simplified(name)), (self._synonyms, simplified(name))):
            found = table.get(key, ())
            if len(found) > 1:
                indices = " and ".join(map(str, found))
                raise UsageError(f"{name!r} is the label of classes {indices}: say which one by --classes FILE")
            if found:
                return found
        if name.isascii() and name.isdecimal() and int(name) < len(self.labels):
            return (int(name),)
        return ()

    @cached_property
    def _exact(self) -> dict[str, tuple[int, ...]]:
        return _table([(label, index) for index, label in enumerate(self.labels)])

    @cached_property
    def _simple(self) -> dict[str, tuple[int, ...]]:
        return _table([(simplified(label), index) for index, label in enumerate(self.labels)])

    @cached_property
    def _synonyms(self) -> dict[str, tuple[int, ...]]:
        parts = [(part, index) for index, label in enumerate(self.labels) for part in label.split(",")]
        return _table([(simplified(part), index) for part, index in parts])


def _table(entries: list[tuple[str, int]]) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {}
    for name, index in entries:
        table[name] = (*table.get(name, ()), index) if index not in table.get(name, ()) else table[name]
    return table


def simplified(name: str) -> str:
    """In small letters, with blanks for the underscores and hyphens of folder names."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def read_names(labels: tuple[str, ...], mapping: Path | None) -> ClassNames:
    """The names of a model's classes with those of a mapping file.

    The file is a JSON object from names to a class index, a label, or a list of them (any of which is right); or a JSON
    list of records with `index` and `wnid`.

    Raises:
        UsageError: the file can't be read, has neither form, or names a class that the model does not have.
    """
    names = ClassNames(labels)
    if mapping is None:
        return names
    try:
        value = json.loads(mapping.read_text(encoding="utf-8"))
        if isinstance(value, list):
            value = {record["wnid"]: record["index"] for record in value}
        entries = {name: _indices(target, names) for name, target in value.items()}
    except OSError:
        raise UsageError(f"there is no file {mapping}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(f"{mapping.name} must be a JSON object from names to class indices or labels") from None
    return ClassNames(labels, entries)


def _indices(target: Any, names: ClassNames) -> tuple[int, ...]:
    if isinstance(target, list):
        return tuple(index for each in target for index in _indices(each, names))
    if isinstance(target, str) and (found := names.find(target)):
        return found
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(names.labels):
        return (target,)
    raise UsageError(f"the model has no class {target!r}, which --classes names")
