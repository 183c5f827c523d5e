"""Reads `models.toml`: the models to serve, in the order in which clients see them. Never imports torch."""

import tomllib
from pathlib import Path

from pydantic import ValidationError, field_validator

from model_store.errors import ManifestError
from model_store.schema import Frozen, ModelEntry, Preprocessing, Serving

__all__ = ["DEFAULT_MANIFEST", "Manifest", "ManifestError", "ModelEntry", "Preprocessing", "Serving", "load_manifest"]

DEFAULT_MANIFEST = Path(__file__).parent / "models.toml"


class Manifest(Frozen):
    """The whole file.

    Attributes:
        models: one entry for each `[[models]]` table; at least one, names are unique.
    """

    models: tuple[ModelEntry, ...]

    @field_validator("models")
    @classmethod
    def _names_are_unique(cls, models: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
        if not models:
            raise ValueError("at least one [[models]] table is needed")
        names = [model.name for model in models]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the name {repeated[0]} is used twice")
        return models


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest. The files that it names are not opened.

    Raises:
        ManifestError: there is no such file, it is not TOML, or a key is missing, unknown or has a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ManifestError("", f"no manifest at {path}") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError("", f"{path.name} is not TOML: {error}") from None
    try:
        return Manifest.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        raise ManifestError(_key(first["loc"]), first["msg"].removeprefix("Value error, ")) from None


def _key(location: tuple[int | str, ...]) -> str:
    """("models", 0, "preprocessing", "size") -> "models[0].preprocessing.size"."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
