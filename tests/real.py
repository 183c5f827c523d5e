"""The real networks and photographs that some tests use. They are no part of the project and are never copied."""

import hashlib
import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("WHYLIGHT_REAL") or Path(__file__).resolve().parents[2] / "shared" / "real")
HALF = "[0.5, 0.5, 0.5]"

# name: (folder under models/, class in architectures.py, side of the input, interpolation, mean, std)
MODELS = {
    "mobilenet": ("mobilenet_v2_1.0_224", "MobileNetV2", 224, "bilinear", HALF, HALF),
    "squeezenet": (
        "squeezenet1_1",
        "SqueezeNet11",
        227,
        "bilinear",
        str([122.67 / 255, 116.67 / 255, 104 / 255]),
        str([1 / 255] * 3),
    ),
    "vit-tiny": ("vit_tiny_patch16_224", "ViT", 224, "bicubic", HALF, HALF),
}

_ENTRY = """
[[models]]
name = "{name}"
version = "1"
description = "{folder}, for tests"
architecture = "python:{root}/architectures.py:{callable}"
weights = "{weights}"
sha256 = "{sha256}"
labels_file = "{root}/imagenet_classes.json"
[models.preprocessing]
size = {side}
interpolation = "{interpolation}"
mean = {mean}
std = {std}
"""


def require_real() -> Path:
    """The folder of the real networks; skips the test where there is none."""
    if not (ROOT / "architectures.py").is_file():
        pytest.skip(f"no real networks at {ROOT}: set WHYLIGHT_REAL")
    return ROOT


def photographs() -> list[Path]:
    """Every photograph, in a fixed order; skips the test where there are none."""
    return sorted((require_real() / "images").rglob("*.jpg"))


def write_real_manifest(folder: Path) -> Path:
    """Write a manifest of the real networks into `folder`; it points to the files where they are.

    Skips the test where there are none.
    """
    root = require_real()
    entries = []
    for name, (model, callable_name, side, interpolation, mean, std) in MODELS.items():
        weights = root / "models" / model / "model.safetensors"
        entries.append(
            _ENTRY.format(
                name=name,
                folder=model,
                root=root,
                callable=callable_name,
                weights=weights,
                sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
                side=side,
                interpolation=interpolation,
                mean=mean,
                std=std,
            )
        )
    path = folder / "models.toml"
    path.write_text("".join(entries), encoding="utf-8")
    return path
