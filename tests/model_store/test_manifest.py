"""The manifest: what is accepted, and that an error names the key."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from model_store.manifest import DEFAULT_MANIFEST, ManifestError, load_manifest
from model_store.schema import Architecture, Preprocessing
from tests.tiny import manifest_text

DIGEST = "ab" * 32
TEXT = manifest_text("python:nets/tiny.py:Tiny", DIGEST, "tiny.safetensors")


def load(folder: Path, text: str):
    path = folder / "models.toml"
    path.write_text(text)
    return load_manifest(path)


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    """Only what a model cannot do without has to be written."""
    entry = load(tmp_path, TEXT).models[0]
    assert (entry.name, entry.version, entry.sha256) == ("tiny", "1.2", DIGEST)
    assert (entry.target_layer, entry.labels_file, dict(entry.arguments)) == (None, None, {})
    assert (entry.preprocessing.size, entry.preprocessing.resize) == ((32, 32), "squash")
    assert entry.preprocessing.interpolation == "bilinear"
    assert entry.activation == "softmax"
    assert (entry.serving.workers, entry.serving.threads) == (1, None)
    assert entry.onnx is None


def test_default_manifest_loads() -> None:
    """The models that come with the project."""
    assert [model.name for model in load_manifest(DEFAULT_MANIFEST).models] == ["digits-cnn", "digits-vit"]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('name = "tiny"', 'name = "Tiny"', "models[0].name"),
        ('name = "tiny"', 'name = "../tiny"', "models[0].name"),
        ('name = "tiny"', 'name = "' + "x" * 64 + '"', "models[0].name"),
        ('name = "tiny"', 'name = "tiny--quality"', "models[0].name"),
        ('version = "1.2"', 'version = ""', "models[0].version"),
        ('version = "1.2"', "", "models[0].version"),
        ("python:nets/tiny.py:Tiny", "python:nets/tiny.py", "models[0].architecture"),
        ("python:nets/tiny.py:Tiny", "timm:hf-hub:someone/something", "models[0].architecture"),
        ("python:nets/tiny.py:Tiny", "keras:net.h5", "models[0].architecture"),
        ("python:nets/tiny.py:Tiny", "onnx:net.pt2", "models[0].architecture"),
        ("python:nets/tiny.py:Tiny", "onnx:net.onnx", "models[0]"),
        ("python:nets/tiny.py:Tiny", "pt2:net.pt2", "models[0]"),
        ("tiny.safetensors", "tiny.pkl", "models[0].weights"),
        ('weights = "tiny.safetensors"', "", "models[0]"),
        (DIGEST, "abc", "models[0].sha256"),
        ("labels =", 'activation = "relu"\nlabels =', "models[0].activation"),
        ("labels =", 'labels_file = "a.txt"\nlabels =', "models[0]"),
        ("[models.pre", "arguments = {pretrained = true}\n[models.pre", "models[0].arguments"),
        ("size = 32", "size = 0", "models[0].preprocessing.size[0]"),
        ("size = 32", 'size = 32\nresize = "crop"', "models[0].preprocessing"),
        ("size = 32", 'size = 32\nresize = "crop"\nshort_side = 31', "models[0].preprocessing"),
        ("size = 32", "size = 32\nshort_side = 40", "models[0].preprocessing"),
        ("size = 32", 'size = 32\nresize = "pad"', "models[0].preprocessing.resize"),
        ("std = [0.5, 0.5, 0.5]", "std = [0.5, 0.0, 0.5]", "models[0].preprocessing.std[1]"),
        ("std = [0.5, 0.5, 0.5]", "std = [0.5, nan, 0.5]", "models[0].preprocessing.std[1]"),
        ("std = [0.5, 0.5, 0.5]", "std = [0.5]", "models[0].preprocessing.std[1]"),
        ("size = 32", "size = 32\ncolour = 'rgb'", "models[0].preprocessing.colour"),
        (TEXT, TEXT + "[models.serving]\nworkers = 0\n", "models[0].serving.workers"),
        (TEXT, TEXT + '[models.onnx]\ngraph = "g.onnx"\n', "models[0].onnx.sha256"),
        (TEXT, TEXT + f'[models.onnx]\ngraph = "g.pt2"\nsha256 = "{DIGEST}"\n', "models[0].onnx.graph"),
        (TEXT, TEXT + TEXT, "models"),
        (TEXT, "models = []", "models"),
        (TEXT, "", "models"),
        (TEXT, TEXT + "[other]\n", "other"),
    ],
)
def test_error_names_the_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    """Whoever edits the file is told where to look."""
    assert old in TEXT
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, TEXT.replace(old, new, 1))
    assert caught.value.key == key
    assert str(caught.value).startswith(key)


def test_not_toml_and_not_there(tmp_path: Path) -> None:
    """Both are errors of the manifest, not of its reader."""
    with pytest.raises(ManifestError, match="not TOML"):
        load(tmp_path, "[[models")
    with pytest.raises(ManifestError, match="no manifest"):
        load_manifest(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "kind", "file", "name", "shown"),
    [
        ("torchvision:resnet50", "torchvision", "", "resnet50", "torchvision:resnet50"),
        ("timm:vit_tiny_patch16_224.augreg", "timm", "", "vit_tiny_patch16_224.augreg", None),
        ("python:/home/me/a:b/net.py:Net", "python", "/home/me/a:b/net.py", "Net", "python:net.py:Net"),
        ("pt2:/home/me/net.pt2", "pt2", "/home/me/net.pt2", "", "pt2:net.pt2"),
        ("onnx:nets/net.onnx", "onnx", "nets/net.onnx", "", "onnx:net.onnx"),
    ],
)
def test_architecture(text: str, kind: str, file: str, name: str, shown: str | None) -> None:
    """Five forms; what people see holds no path."""
    parsed = Architecture.parse(text)
    assert (parsed.kind, parsed.file, parsed.name) == (kind, file, name)
    assert parsed.text == (shown or text)


def test_onnx_runtime_twice(tmp_path: Path) -> None:
    """A model that is an ONNX file has no graph beside it."""
    text = manifest_text("onnx:net.onnx", DIGEST)
    assert load(tmp_path, text).models[0].source.holds_weights
    with pytest.raises(ManifestError, match=r"leave \[models.onnx\] out"):
        load(tmp_path, text + f'[models.onnx]\ngraph = "g.onnx"\nsha256 = "{DIGEST}"\n')


def test_preprocessing_digest_follows_every_field() -> None:
    """Equal descriptions have equal digests, however they are written; a change of any field shows."""
    base = {"size": 32, "mean": (0, 0, 0), "std": (1, 1, 1)}
    digest = Preprocessing(**base).digest()
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert digest == Preprocessing(**{**base, "size": [32, 32], "mean": (0.0, 0.0, 0.0), "resize": "squash"}).digest()
    changes = [
        {"size": 33},
        {"mean": (0, 0.1, 0)},
        {"std": (1, 1, 2)},
        {"interpolation": "bicubic"},
        {"resize": "crop", "short_side": 40},
    ]
    assert len({Preprocessing(**{**base, **change}).digest() for change in changes} | {digest}) == 6


def test_entries_cannot_be_changed(tmp_path: Path) -> None:
    """What was checked stays checked."""
    with pytest.raises(ValidationError):
        load(tmp_path, TEXT).models[0].name = "other"
