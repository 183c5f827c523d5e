"""Builds the archives that TorchServe loads: the same entry gives the same bytes, on every machine, at any time.

An archive holds MAR-INF/MANIFEST.json for TorchServe, model.json for the handler, the weights, for own architectures
their file, for ONNX Runtime its graph, and a handler file that only imports the installed one. No config yaml: it would
override the server's own settings under every name that the archive is registered under.
"""

import filecmp
import hashlib
import importlib.resources
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from model_store.document import ARCHITECTURE_FILE, DOCUMENT_NAME, GRAPH_FILE, ModelDocument
from model_store.errors import ArchiveError, DigestMismatchError, MissingFileError
from model_store.labels import read_labels
from model_store.manifest import load_manifest
from model_store.schema import ModelEntry

__all__ = ["ArchiveError", "build_all", "build_archive"]

# TorchServe imports it by this name from the folder of the unpacked archive.
HANDLER_FILE = "whylight_handler.py"
_OLDEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20


def build_all(manifest_path: Path, output_folder: Path) -> list[Path]:
    """Build the archive of every model and return their paths in the order of the manifest.

    Raises:
        ManifestError, ArchiveError.
    """
    models = load_manifest(manifest_path).models
    return [build_archive(entry, manifest_path.parent, output_folder) for entry in models]


def build_archive(entry: ModelEntry, manifest_folder: Path, output_folder: Path) -> Path:
    """Write `NAME.mar` and return its path. An archive with the same bytes is left untouched.

    Raises:
        MissingFileError: a file of the entry does not exist.
        LabelsError: the labels file has none of the formats.
        DigestMismatchError: the weights are not those of the manifest. Nothing is written.
    """
    document = ModelDocument.from_entry(entry, read_labels(entry, manifest_folder))
    output_folder.mkdir(parents=True, exist_ok=True)
    target = output_folder / f"{entry.name}.mar"
    draft = output_folder / f".{entry.name}.mar.{os.getpid()}"
    try:
        with zipfile.ZipFile(draft, "w") as archive:
            _write(archive, entry, document, manifest_folder)
        if not (target.exists() and filecmp.cmp(draft, target, shallow=False)):
            draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _write(archive: zipfile.ZipFile, entry: ModelEntry, document: ModelDocument, folder: Path) -> None:
    _add_text(archive, "MAR-INF/MANIFEST.json", _torchserve_manifest(entry))
    _add_text(archive, DOCUMENT_NAME, json.dumps(document.model_dump(mode="json"), indent=1, sort_keys=True))
    _add_text(archive, HANDLER_FILE, (importlib.resources.files("handlers") / "entry.py").read_text(encoding="utf-8"))
    if document.source.kind == "python":
        _add_file(archive, ARCHITECTURE_FILE, folder, entry.source.file)
    _add_checked(archive, document.weights, entry, entry.weights or entry.source.file, entry.sha256, folder)
    if entry.onnx is not None:
        _add_checked(archive, GRAPH_FILE, entry, entry.onnx.graph, entry.onnx.sha256, folder)


def _add_checked(
    archive: zipfile.ZipFile, name: str, entry: ModelEntry, file: str, expected: str, folder: Path
) -> None:
    actual = _add_file(archive, name, folder, file)
    if actual != expected:
        raise DigestMismatchError(f"{entry.name}: {file}", expected, actual)


def _torchserve_manifest(entry: ModelEntry) -> str:
    """What torch-model-archiver writes, but for the date: TorchServe warns where there is none, and uses it nowhere."""
    model = {"modelName": entry.name, "handler": HANDLER_FILE, "modelVersion": entry.version}
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0", "createdOn": "01/01/1980 00:00:00"}
    return json.dumps(manifest, indent=1, sort_keys=True)


def _entry_info(name: str) -> zipfile.ZipInfo:
    """Stored, not compressed: weights hardly shrink, and the bytes would depend on the version of zlib."""
    info = zipfile.ZipInfo(name, _OLDEST_ZIP_DATE)
    info.compress_type = zipfile.ZIP_STORED
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    return info


def _add_text(archive: zipfile.ZipFile, name: str, text: str) -> None:
    archive.writestr(_entry_info(name), text.replace("\r\n", "\n").encode())


def _add_file(archive: zipfile.ZipFile, name: str, folder: Path, file: str) -> str:
    """Copy a file into the archive and return the sha256 of what was copied."""
    path = folder / file
    if not path.is_file():
        raise MissingFileError(f"{file} does not exist in the folder of the manifest")
    info = _entry_info(name)
    info.file_size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as source, archive.open(info, "w") as destination:
        for chunk in _chunks(source):
            digest.update(chunk)
            destination.write(chunk)
    return digest.hexdigest()


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK):
        yield chunk
