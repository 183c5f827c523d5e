"""Changes one entry of a manifest and leaves every other character of the file as it is."""

from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Table
from tomlkit.toml_document import TOMLDocument

from onboarding.errors import OnboardingError

HEADER = "# The models that Whylight serves: `whylight serve --manifest {name}`. Files are relative to this one.\n"


def with_entry(manifest: Path, entry: dict[str, Any]) -> str:
    """The text of the manifest with one more entry; of a new one, if there is no such file."""
    text = manifest.read_text(encoding="utf-8") if manifest.exists() else HEADER.format(name=manifest.name)
    document = tomlkit.parse(text)
    models = _models(document)
    if models is None:
        models = tomlkit.aot()
        document.append("models", models)
    models.append(_table(entry))
    added = tomlkit.dumps(document)
    # tomlkit puts a table right behind the text that was there.
    head, body = added[: len(text.rstrip())], added[len(text.rstrip()) :]
    return f"{head}\n\n{body.lstrip()}" if added.startswith(text.rstrip()) else added


def without_entry(manifest: Path, name: str) -> str:
    """The text of the manifest without an entry.

    Raises:
        OnboardingError: there is no such entry, or no other.
    """
    document = tomlkit.parse(manifest.read_text(encoding="utf-8"))
    models = _models(document) or tomlkit.aot()
    places = [place for place, table in enumerate(models) if table.get("name") == name]
    if not places:
        raise OnboardingError(f"there is no model {name!r} in {manifest.name}")
    if len(models) == 1:
        raise OnboardingError(f"{name} is the only model, and a manifest has at least one: delete {manifest.name}")
    del models[places[0]]
    return tomlkit.dumps(document)


def with_graph(manifest: Path, name: str, graph: dict[str, str]) -> str:
    """The text of the manifest with `[models.onnx]` in the entry of that name, new or in the place of an old one."""
    document = tomlkit.parse(manifest.read_text(encoding="utf-8"))
    entry = next(table for table in _models(document) or () if table.get("name") == name)
    if "onnx" in entry:
        entry["onnx"].update(graph)
        return tomlkit.dumps(document)
    table = tomlkit.table()
    table.update(graph)
    table.add(tomlkit.nl())
    entry.append("onnx", table)
    return tomlkit.dumps(document)


def _models(document: TOMLDocument) -> AoT | None:
    found = document.get("models")
    return found if isinstance(found, AoT) else None


def _table(entry: dict[str, Any]) -> Table:
    """Tables inside the entry come last, as `[models.preprocessing]`; the constructor's arguments stay in one line."""
    table = tomlkit.table()
    for key, value in entry.items():
        if key == "arguments":
            inline = tomlkit.inline_table()
            inline.update(value)
            table.add(key, inline)
        elif not isinstance(value, dict):
            table.add(key, value)
    for key, value in entry.items():
        if isinstance(value, dict) and key != "arguments":
            inner = tomlkit.table()
            inner.update(value)
            table.add(tomlkit.nl())
            table.add(key, inner)
    return table
