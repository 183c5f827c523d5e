"""Adds a model: everything is tried in a folder of its own, and only what worked is moved to its place."""

import hashlib
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from model_store.archive import build_archive
from model_store.errors import ModelStoreError
from model_store.manifest import load_manifest
from onboarding.check import Checked, check_archive
from onboarding.errors import OnboardingError
from onboarding.library import Known, look_up, with_overrides
from onboarding.manifest_file import with_entry
from onboarding.request import AddRequest


@dataclass(frozen=True)
class Added:
    """What was done.

    Attributes:
        archive: the built archive.
        files: further files that were made.
        origin: where the preprocessing comes from.
        checked: what the model showed.
    """

    archive: Path
    files: tuple[Path, ...]
    origin: str
    checked: Checked


def add_model(request: AddRequest) -> Added:
    """Write the entry, the files that it needs, and the archive, once the model has explained an image.

    Raises:
        OnboardingError: something is wrong; nothing was changed.
    """
    root = request.manifest.parent.resolve()
    try:
        if request.manifest.exists() and request.name in {each.name for each in load_manifest(request.manifest).models}:
            raise OnboardingError(f"there is a model {request.name!r} in {request.manifest.name} already")
        with ExitStack() as undo:
            _make_folders(root, undo)
            draft = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix=".whylight-add-", dir=root)))
            return _try(request, root, draft)
    except ModelStoreError as error:
        raise OnboardingError(str(error)) from None
    except OSError as error:
        raise OnboardingError(f"{error.strerror or error}: {Path(error.filename or root).name}") from None


def _try(request: AddRequest, root: Path, draft: Path) -> Added:
    files = draft / "files"  # as the manifest's folder will be
    files.mkdir()
    known = _known(request)
    entry, new = _entry(request, known, root, files)
    text = with_entry(request.manifest, entry)
    (files / request.manifest.name).write_text(text, encoding="utf-8")
    models = load_manifest(files / request.manifest.name).models
    archive = build_archive(models[-1], files, draft / "store")
    checked = check_archive(archive, draft / "model", request.image)
    moves = [(archive, request.store.resolve() / archive.name)]
    moves += [(files / name, root / name) for name in new]
    moves.append((files / request.manifest.name, request.manifest.resolve()))  # last: it makes all others count
    _move(moves)
    return Added(moves[0][1], tuple(root / name for name in new), known.origin, checked)


def _known(request: AddRequest) -> Known:
    source = request.source
    if source.kind in ("timm", "torchvision"):
        known = look_up(source, request.arguments, request.weights)
    else:
        known = Known({}, (), "the command line", None, request.arguments)
        if missing := [f"--{key}" for key in ("size", "mean", "std") if key not in request.preprocessing]:
            raise OnboardingError(f"own code and exports don't say how they see images: give {', '.join(missing)}")
    return with_overrides(known, request.preprocessing)


def _entry(request: AddRequest, known: Known, root: Path, files: Path) -> tuple[dict[str, Any], list[str]]:
    """The entry, and which of the files that it names are new; all of them are put into `files`."""
    new: list[str] = []
    source = request.source
    entry: dict[str, Any] = {"name": request.name, "version": "1", **request.entry}
    entry["architecture"] = ":".join(part for part in (source.kind, source.file, source.name) if part)
    if known.arguments:
        entry["arguments"] = known.arguments
    if source.file:
        if ".." in Path(source.file).parts:
            raise OnboardingError(f"{Path(source.file).name} must lie in the folder of the manifest, or below it")
        if not Path(source.file).is_absolute():
            _show(root / source.file, files / source.file)
        weights = source.file
    if known.state is not None:
        weights = entry["weights"] = f"weights/{request.name}.safetensors"
        (files / weights).parent.mkdir(parents=True, exist_ok=True)
        save_file(known.state, files / weights)
        new.append(weights)
    elif request.weights is not None:
        weights = entry["weights"] = _place(request.weights, "weights", request.name, root, files, new)
    entry["sha256"] = _digest(files / weights)
    entry["labels_file"] = _labels(request, known, root, files, new)
    entry["preprocessing"] = known.preprocessing
    return entry, new


def _labels(request: AddRequest, known: Known, root: Path, files: Path, new: list[str]) -> str:
    if request.labels is not None:
        return _place(request.labels, "labels", request.name, root, files, new)
    if not known.labels:
        raise OnboardingError("the names of the classes are not known: give --labels FILE, one name a line")
    name = f"labels/{request.name}.txt"
    (files / name).parent.mkdir(parents=True, exist_ok=True)
    (files / name).write_text("\n".join(known.labels) + "\n", encoding="utf-8")
    new.append(name)
    return name


def _place(file: Path, folder: str, name: str, root: Path, files: Path, new: list[str]) -> str:
    """Where the manifest finds a file: where it is, if that is below the manifest; else a copy of it."""
    path = file.resolve()
    if not path.is_file():
        raise OnboardingError(f"there is no file {file.name}")
    if path.is_relative_to(root):
        inside = path.relative_to(root).as_posix()
        _show(path, files / inside)
        return inside
    inside = f"{folder}/{name}{path.suffix}"
    (files / inside).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, files / inside)
    new.append(inside)
    return inside


def _show(path: Path, place: Path) -> None:
    """Make a file visible in the draft without copying it."""
    if not path.is_file():
        raise OnboardingError(f"{path.name} does not exist in the folder of the manifest")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(moves: list[tuple[Path, Path]]) -> None:
    """All or nothing. An archive of that name and the manifest are replaced; another file in the way is an error."""
    replaced = {moves[0][1], moves[-1][1]}
    with ExitStack() as undo:
        for source, target in moves:
            if target.exists() and target not in replaced:
                raise OnboardingError(f"{target.name} is there already: remove it, or give it as the file to use")
            _make_folders(target.parent, undo)
            if not target.exists():
                undo.callback(target.unlink, missing_ok=True)
            os.replace(source, target)
        undo.pop_all()


def _make_folders(folder: Path, undo: ExitStack) -> None:
    """Make a folder and those above it, and take the new ones away again when `undo` is closed, if they are empty."""
    for path in reversed([folder, *folder.parents]):
        if not path.exists():
            path.mkdir()
            undo.callback(_remove_empty, path)


def _remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
