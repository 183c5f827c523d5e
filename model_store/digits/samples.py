"""Held-out images for others: pairs of digits for localisation studies, and the demo pictures with their ground truth.

`python -m model_store.digits.samples` writes the pictures again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model_store.digits.data import DEFAULT_SIDE, Sample, make_sample, samples

SAMPLES_FOLDER = Path(__file__).parent / "samples"
PICTURE_SIDE = 384


@dataclass(frozen=True)
class Choice:
    """A demo picture, chosen by eye: file stem, photograph, seed, and number of digits."""

    stem: str
    photograph: str
    seed: int
    digits: int


CHOICES = (
    Choice("cat", "chelsea.png", 15, 2),
    Choice("temple", "china.jpg", 6, 2),
    Choice("rocket", "rocket.jpg", 7, 2),
    Choice("coffee", "coffee.png", 17, 2),
    Choice("cat_single", "chelsea.png", 1, 1),
    Choice("rocket_single", "rocket.jpg", 6, 1),
)


def held_out_pairs(count: int, seed: int = 0, side: int = DEFAULT_SIDE) -> Iterator[Sample]:
    """Yield `count` held-out samples (side, side, 3), each with two digits of different classes; see `Sample`.

    Neither the digits nor the photographs were seen in training. The i-th sample depends on seed, side and i only.
    """
    return samples("held_out", count, seed, side, digits=2)


def picture(choice: Choice) -> Sample:
    """The demo picture as a held-out sample of 384x384 pixels."""
    rng = np.random.default_rng(choice.seed)
    return make_sample(rng, "held_out", PICTURE_SIDE, choice.digits, choice.photograph)


def write_picture(choice: Choice, folder: Path) -> dict[str, object]:
    """Write the JPEG and one 1-bit PNG mask per digit; returns the picture's entry in samples.json."""
    sample = picture(choice)
    image_file = f"{choice.stem}.jpg"
    Image.fromarray(sample.image).save(folder / image_file, quality=95, subsampling=0)
    mask_files = []
    for label, mask in zip(sample.labels, sample.masks, strict=True):
        mask_files.append(f"{choice.stem}_mask_{label}.png")
        Image.fromarray(mask).save(folder / mask_files[-1], optimize=True)
    return {
        "image": image_file,
        "labels": list(sample.labels),
        "boxes": [list(box) for box in sample.boxes],
        "masks": mask_files,
        "photograph": sample.photograph,
    }


def main() -> None:
    """Write every picture, its masks, and samples.json: one entry per picture, digits in the same order throughout."""
    SAMPLES_FOLDER.mkdir(exist_ok=True)
    entries = [write_picture(choice, SAMPLES_FOLDER) for choice in CHOICES]
    (SAMPLES_FOLDER / "samples.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {len(entries)} pictures to {SAMPLES_FOLDER.name}/")


if __name__ == "__main__":
    main()
