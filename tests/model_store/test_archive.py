"""Archives: what is in them, that they can be made again, and what is refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from model_store import __main__ as command
from model_store.archive import build_all
from model_store.errors import DigestMismatchError, MissingFileError
from model_store.manifest import DEFAULT_MANIFEST, load_manifest
from tests.real import write_real_manifest
from tests.tiny import write_tiny


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest with one small model."""
    return write_tiny(tmp_path / "project")


def test_contents(manifest: Path, tmp_path: Path) -> None:
    """What TorchServe and the handler need, nothing of the machine, and no config yaml."""
    (path,) = build_all(manifest, tmp_path / "store")
    assert path == tmp_path / "store" / "tiny.mar"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [
            "MAR-INF/MANIFEST.json",
            "model.json",
            "whylight_handler.py",
            "whylight_architecture.py",
            "weights.safetensors",
        ]
        torchserve = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        document = json.loads(archive.read("model.json"))
        handler = archive.read("whylight_handler.py").decode()
    assert torchserve["model"] == {"modelName": "tiny", "modelVersion": "1.2", "handler": "whylight_handler.py"}
    assert document["architecture"] == "python:tiny.py:Tiny"
    assert document["labels"] == ["ant", "bee", "cat", "dog", "eel"]
    assert document["preprocessing_digest"].startswith("sha256:")
    assert handler.count("\nclass ") == 1
    assert str(tmp_path).encode() not in path.read_bytes()


def test_a_graph_for_onnx_runtime(manifest: Path, tmp_path: Path) -> None:
    """It is in the archive, and its digest is checked as that of the weights is."""
    table = '[models.onnx]\ngraph = "graphs/tiny.onnx"\nsha256 = "{}"\n'
    text = manifest.read_text()
    manifest.write_text(text + table.format(hashlib.sha256(b"graph").hexdigest()))
    with pytest.raises(MissingFileError, match=r"^graphs/tiny"):
        build_all(manifest, tmp_path / "store")
    (manifest.parent / "graphs").mkdir()
    (manifest.parent / "graphs" / "tiny.onnx").write_bytes(b"graph")
    (path,) = build_all(manifest, tmp_path / "store")
    with zipfile.ZipFile(path) as archive:
        assert archive.read("fast_path.onnx") == b"graph"
        assert json.loads(archive.read("model.json"))["graph_sha256"] == hashlib.sha256(b"graph").hexdigest()
    manifest.write_text(text + table.format("ab" * 32))
    with pytest.raises(DigestMismatchError, match=r"^tiny: graphs/tiny"):
        build_all(manifest, tmp_path / "store")


def test_same_bytes_anywhere_at_any_time(manifest: Path, tmp_path: Path) -> None:
    """Another folder, other times, other permissions, another umask, another process: the same archive."""
    (first,) = build_all(manifest, tmp_path / "a")
    elsewhere = tmp_path / "moved" / "deeper"
    shutil.copytree(manifest.parent, elsewhere)
    for file in [*elsewhere.rglob("*.py"), *elsewhere.rglob("*.safetensors")]:
        os.utime(file, (1, 1))
        file.chmod(0o600)
    code = "import os, sys; os.umask(0o077); from model_store.__main__ import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["--manifest", str(elsewhere / "models.toml"), "--output", str(tmp_path / "b")]
    environment = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment, capture_output=True)
    assert first.read_bytes() == (tmp_path / "b" / "tiny.mar").read_bytes()


def test_unchanged_archive_is_left_alone(manifest: Path, tmp_path: Path) -> None:
    """A server that has the file open sees no other one; a change of the weights is written."""
    (path,) = build_all(manifest, tmp_path / "store")
    os.utime(path, (1, 1))
    build_all(manifest, tmp_path / "store")
    assert path.stat().st_mtime == 1
    manifest.write_text(manifest.read_text().replace('version = "1.2"', 'version = "1.3"'))
    build_all(manifest, tmp_path / "store")
    assert path.stat().st_mtime > 1
    assert [file.name for file in (tmp_path / "store").iterdir()] == ["tiny.mar"]


def test_wrong_digest_is_refused(manifest: Path, tmp_path: Path) -> None:
    """No archive is written, and an older one stays as it is."""
    (path,) = build_all(manifest, tmp_path / "store")
    before = path.read_bytes()
    weights = manifest.parent / "tiny.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(DigestMismatchError, match=r"tiny\.safetensors"):
        build_all(manifest, tmp_path / "store")
    assert path.read_bytes() == before
    assert [file.name for file in (tmp_path / "store").iterdir()] == ["tiny.mar"]


@pytest.mark.parametrize("file", ["tiny.safetensors", "nets/tiny.py"])
def test_missing_file(manifest: Path, tmp_path: Path, file: str) -> None:
    """The error names the file as the manifest does, without the folder."""
    (manifest.parent / file).unlink()
    with pytest.raises(MissingFileError, match=f"^{file}"):
        build_all(manifest, tmp_path / "store")


def test_command(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints a table; an error is one line on stderr and status 1."""
    arguments = ["--manifest", str(manifest), "--output", str(tmp_path / "store")]
    assert command.main(arguments) == 0
    assert "tiny.mar" in capsys.readouterr().out
    (manifest.parent / "tiny.safetensors").write_bytes(b"")
    assert command.main(arguments) == 1
    assert "sha256" in capsys.readouterr().err


def test_torch_stays_out() -> None:
    """The service builds archives, and never imports torch."""
    code = "import sys, model_store.archive; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_default_models(tmp_path: Path) -> None:
    """The digests in models.toml are those of the weights that come with the project."""
    entries = load_manifest(DEFAULT_MANIFEST).models
    if not all((DEFAULT_MANIFEST.parent / str(entry.weights)).is_file() for entry in entries):
        pytest.skip("the default models are not trained yet: model_store/weights lacks a file")
    paths = build_all(DEFAULT_MANIFEST, tmp_path)
    assert [path.name for path in paths] == ["digits-cnn.mar", "digits-vit.mar"]


@pytest.mark.real
def test_real_models(tmp_path: Path) -> None:
    """Files outside the manifest's folder may be named; their paths stay out of the archive."""
    paths = build_all(write_real_manifest(tmp_path), tmp_path / "store")
    assert [path.name for path in paths] == ["mobilenet.mar", "squeezenet.mar", "vit-tiny.mar"]
    with zipfile.ZipFile(paths[0]) as archive:
        document = json.loads(archive.read("model.json"))
    assert document["architecture"] == "python:architectures.py:MobileNetV2"
    assert len(document["labels"]) == 1000
