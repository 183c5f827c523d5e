"""Draws TIBAV beside raw attention, rollout and Grad-CAM.

`python -m benchmarks.tibav_picture [--output docs/images/tibav.png]`

Photographs that scikit-image and scikit-learn bring along, explained by the real ViT-Tiny for its top class; and a
picture with two digits, explained for both by the default transformer, where its weights are there.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from explainers import METHODS, Classes, Method, Network, upsample
from model_store.digits.models import WEIGHTS_FOLDER, load_model
from model_store.digits.samples import SAMPLES_FOLDER
from model_store.digits.sources import photographs
from tests.real import require_real
from tests.real_networks import architectures, prepared

VIT_TINY = "vit_tiny_patch16_224"
DIGITS, DIGIT_CLASSES = "coffee.jpg", (4, 5)
COLUMNS: dict[str, Method] = {
    "raw attention": METHODS["raw_attention"](),
    "rollout": METHODS["attention_rollout"](),
    "Grad-CAM": METHODS["grad_cam"](),
    "TIBAV, stable": METHODS["tibav"](),
    "TIBAV, published": METHODS["tibav"](rule="published"),  # type: ignore[call-arg]
}


@dataclass(frozen=True)
class Row:
    """An image of shape (3, H, W) in [0, 1], what explains it, and for which class."""

    network: Network
    pixels: Tensor
    target: int
    title: str


def rows() -> list[Row]:
    """What to draw."""
    _, network, _ = prepared(VIT_TINY)
    classes = json.loads((require_real() / "imagenet_classes.json").read_text(encoding="utf-8"))
    found = []
    for photograph in photographs("held_out"):
        pixels = architectures().pixels(VIT_TINY, photograph)
        target = int(network.predict(pixels[None])[0].argmax())
        found.append(Row(network, pixels, target, classes[target]["name"].split(",")[0]))
    return found + digit_rows()


def digit_rows() -> list[Row]:
    """The picture with two digits, once for each; nothing where the model has no weights."""
    if not (WEIGHTS_FOLDER / "digits_vit.safetensors").is_file():
        return []
    network = Network(load_model("vit"), input_size=(96, 96), mean=(0.5,) * 3, std=(0.5,) * 3)
    image = Image.open(SAMPLES_FOLDER / DIGITS).convert("RGB").resize((96, 96), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy()) / 255
    return [Row(network, pixels, digit, f"digit {digit}") for digit in DIGIT_CLASSES]


def draw(output: Path) -> None:
    """Draw every row: the image, then each method's map over it."""
    mpl.use("Agg")
    from matplotlib import pyplot

    wanted = rows()
    size = (2 * (1 + len(COLUMNS)), 2.05 * len(wanted) + 0.3)
    figure, grid = pyplot.subplots(len(wanted), 1 + len(COLUMNS), figsize=size, squeeze=False, layout="constrained")
    for row, axes in zip(wanted, grid, strict=True):
        image = row.pixels.permute(1, 2, 0).numpy()
        axes[0].set_ylabel(row.title)
        for axis in axes:
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
        for axis, method in zip(axes[1:], COLUMNS.values(), strict=True):
            result = method.explain(row.network, row.pixels[None], [Classes((row.target,))])[0]
            saliency = upsample(result.explanations[0].map, row.network.input_size)
            axis.imshow(saliency, cmap="viridis", alpha=0.65, vmin=0, vmax=1)
    for axis, name in zip(grid[0], ("image", *COLUMNS), strict=True):
        axis.set_title(name)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=75)
    pyplot.close(figure)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images/tibav.png"), help="PNG file to write")
    draw(parser.parse_args().output)


if __name__ == "__main__":
    main()
