"""Removes a model from a manifest."""

import os
from pathlib import Path

from model_store.manifest import load_manifest
from onboarding.manifest_file import without_entry


def remove_model(name: str, manifest: Path, store: Path) -> None:
    """Take the entry out and delete the archive. Files that the entry names stay where they are.

    Raises:
        ManifestError: the manifest is not valid.
        OnboardingError: it has no such model, or no other.
    """
    load_manifest(manifest)
    text = without_entry(manifest, name)
    replace_text(manifest, text)
    (store / f"{name}.mar").unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """All of it at once: whoever reads the file meanwhile gets the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
