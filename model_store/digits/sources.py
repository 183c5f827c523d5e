"""What the images are made of, and which of it is held out: scikit-learn's digits and scikit-image's photographs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import skimage
import sklearn
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

Split = Literal["train", "held_out"]

CLASSES = 10

# Only photographs whose free licence is stated by the package that ships them, and none that shows printed characters.
PHOTOGRAPHS: Mapping[Split, tuple[str, ...]] = {
    "train": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "cell.png",
        "coins.png",
        "flower.jpg",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "retina.jpg",
    ),
    "held_out": ("chelsea.png", "china.jpg", "coffee.png", "rocket.jpg"),
}

# Of each class, the samples at places 0, 5, 10, ... (in scikit-learn's order) are held out: 20 %.
HELD_OUT_EVERY = 5

_FIELD_SIDE = 80
_LONGEST_SIDE = 640  # larger photographs are shrunk once: every crop of them is cheaper


def digit_indices(split: Split) -> tuple[NDArray[np.int64], ...]:
    """For each class 0..9 the places of the split's samples in `load_digits()`, ascending."""
    labels = load_digits().target
    chosen = []
    for digit in range(CLASSES):
        places = np.flatnonzero(labels == digit)
        held_out = np.arange(len(places)) % HELD_OUT_EVERY == 0
        chosen.append(places[held_out == (split == "held_out")])
    return tuple(chosen)


@cache
def digit_fields(split: Split) -> tuple[tuple[Image.Image, ...], ...]:
    """Per class, the split's digits as smooth height fields: 80x80 images of mode F, 0 (paper) to about 1 (ink).

    The 8x8 counts are padded by an empty cell on each side and upscaled by Lanczos' filter.
    """
    images = load_digits().images
    return tuple(tuple(_smooth_field(images[place]) for place in places) for places in digit_indices(split))


def _smooth_field(counts: NDArray[np.float64]) -> Image.Image:
    padded = np.pad(counts / counts.max(), 1).astype(np.float32)
    return Image.fromarray(padded).resize((_FIELD_SIDE, _FIELD_SIDE), Image.Resampling.LANCZOS)


@cache
def photographs(split: Split) -> tuple[Image.Image, ...]:
    """The split's photographs in RGB, in the order of `PHOTOGRAPHS[split]`."""
    return tuple(_open_photograph(name) for name in PHOTOGRAPHS[split])


def _open_photograph(name: str) -> Image.Image:
    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images")
    path = next(folder / name for folder in folders if (folder / name).exists())
    with Image.open(path) as opened:
        photograph = opened.convert("RGB")
    photograph.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return photograph
