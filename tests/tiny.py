"""A model of a few hundred weights with its manifest, for tests that need an archive but no particular network."""

import hashlib
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from model_store.archive import build_archive
from model_store.manifest import load_manifest

SIDE = 32
LABELS = ("ant", "bee", "cat", "dog", "eel")

SOURCE = '''
import torch
from torch import nn


class Tiny(nn.Module):
    """Global average pooling and a linear head: CAM and Grad-CAM work."""

    def __init__(self, classes=5, channels=8):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.last(self.first(x).relu()).relu().mean((2, 3)))


class Fussy(Tiny):
    """Fails over white images, and runs out of memory over black ones."""

    def forward(self, x):
        means = x.mean((1, 2, 3))
        if (means > 0.99).any():
            raise RuntimeError("white")
        if (means < -0.99).any():
            raise MemoryError
        return super().forward(x)


class TwoLayers(Tiny):
    """No CAM: the head has a hidden layer."""

    def __init__(self, classes=5, channels=8):
        super().__init__(channels, channels)
        self.out = nn.Linear(channels, classes)

    def forward(self, x):
        return self.out(super().forward(x).relu())
'''


def manifest_text(architecture: str, digest: str, weights: str | None = None, extra: str = "") -> str:
    """A manifest with one model for five classes on 32 x 32; `extra` is one more line of its table."""
    return f"""
[[models]]
name = "tiny"
version = "1.2"
description = "for tests"
architecture = "{architecture}"
{f'weights = "{weights}"' if weights else ""}
sha256 = "{digest}"
labels = ["ant", "bee", "cat", "dog", "eel"]
{extra}
[models.preprocessing]
size = 32
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""


def tiny_network(callable_name: str = "Tiny") -> nn.Module:
    """The network of SOURCE with the same random weights every time."""
    names: dict[str, type[nn.Module]] = {}
    exec(SOURCE, names)  # noqa: S102
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return names[callable_name]().eval()


def write_tiny(folder: Path, callable_name: str = "Tiny", weights: str = "tiny.safetensors") -> Path:
    """Write the architecture, its weights and a manifest into `folder`; returns the manifest's path."""
    (folder / "nets").mkdir(parents=True, exist_ok=True)
    (folder / "nets" / "tiny.py").write_text(SOURCE)
    state = tiny_network(callable_name).state_dict()
    path = folder / weights
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    manifest = folder / "models.toml"
    manifest.write_text(manifest_text(f"python:nets/tiny.py:{callable_name}", sha256(path), weights))
    return manifest


def sha256(path: Path) -> str:
    """Of a file, as the manifest wants it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(manifest: Path, folder: Path) -> Path:
    """Build the archive of the first model and unpack it into `folder`, as TorchServe does."""
    archive = build_archive(load_manifest(manifest).models[0], manifest.parent, folder / "store")
    return extract(archive, folder / "unpacked")


def extract(archive: Path, folder: Path) -> Path:
    """Unpack an archive into `folder`, as TorchServe does."""
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder
