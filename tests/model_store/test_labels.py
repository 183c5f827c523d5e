"""Label files in the formats in which people keep them."""

from pathlib import Path

import pytest

from model_store.errors import LabelsError, MissingFileError
from model_store.labels import read_labels
from model_store.manifest import load_manifest
from model_store.schema import ModelEntry
from tests.real import require_real
from tests.tiny import manifest_text


def entry(folder: Path, file: str, text: str | None) -> ModelEntry:
    if text is not None:
        (folder / file).write_text(text, encoding="utf-8")
    manifest = manifest_text("torchvision:resnet18", "0" * 64, "a.pt")
    manifest = manifest.replace('labels = ["ant", "bee", "cat", "dog", "eel"]', f'labels_file = "{file}"')
    (folder / "models.toml").write_text(manifest)
    return load_manifest(folder / "models.toml").models[0]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.json", '["ant", "bée"]'),
        ("a.json", '[{"index": 1, "name": "bée"}, {"index": 0, "name": "ant", "wnid": "n1"}]'),
        ("a.txt", "ant\nbée\n"),
        ("a.txt", "ant\r\nbée"),
    ],
)
def test_formats(tmp_path: Path, file: str, text: str) -> None:
    """Every format gives the names in the order of the index."""
    assert read_labels(entry(tmp_path, file, text), tmp_path) == ("ant", "bée")


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[1]", '[{"index": 0}]', '[{"index": 1, "name": "a"}]', '[{"index": "0", "name": "a"}, "b"]', "[[]]"],
)
def test_other_formats_are_refused(tmp_path: Path, text: str) -> None:
    """A file that is nearly right would shift every label."""
    with pytest.raises(LabelsError, match=r"a\.json"):
        read_labels(entry(tmp_path, "a.json", text), tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    """The error names the file as the manifest does."""
    with pytest.raises(MissingFileError, match=r"b\.json"):
        read_labels(entry(tmp_path, "b.json", None), tmp_path)


@pytest.mark.real
def test_imagenet(tmp_path: Path) -> None:
    """The records of ImageNet's classes."""
    labels = read_labels(entry(tmp_path, str(require_real() / "imagenet_classes.json"), None), tmp_path)
    assert len(labels) == 1000
    assert labels[0] == "tench, Tinca tinca"
