"""Draws every saliency method on photographs with two digits, by both default models, each digit against the other.

Run by `make gallery`. Writes one sheet for each photograph, and docs/gallery.md around them.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from tqdm import tqdm

from explainers import METHODS, Classes, Explanation, Method, Network, NotApplicableError, upsample
from model_store.digits.models import load_model
from model_store.digits.samples import SAMPLES_FOLDER
from protos.explain.v1 import method_pb2

ROOT = Path(__file__).resolve().parent.parent
STEMS = ("cat", "temple", "rocket")
SIDE = 96
MODELS = {"CNN": "cnn", "ViT": "vit"}
GROUPS_A_ROW = 3
TILE, TEXT, GAP, GROUP_GAP = 96, 16, 2, 14
OPACITY = 0.65
INK, FAINT = "#222222", "#eeeeee"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photograph:
    """A photograph with two digits.

    Attributes:
        stem: name of the file, without its ending.
        pixels: shape (3, SIDE, SIDE), in [0, 1].
        digits: the two classes to explain.
    """

    stem: str
    pixels: Tensor
    digits: tuple[int, ...]

    @property
    def picture(self) -> Pixels:
        """Shape (SIDE, SIDE, 3)."""
        return np.asarray((self.pixels.permute(1, 2, 0) * 255).round().byte())


def photographs() -> list[Photograph]:
    """What to explain."""
    samples = {Path(each["image"]).stem: each for each in json.loads((SAMPLES_FOLDER / "samples.json").read_text())}
    found = []
    for stem in STEMS:
        image = Image.open(SAMPLES_FOLDER / samples[stem]["image"]).convert("RGB")
        values = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
        pixels = torch.from_numpy(values.transpose(2, 0, 1) / 255)
        found.append(Photograph(stem, pixels, tuple(samples[stem]["labels"])))
    return found


def networks() -> dict[str, Network]:
    """The default models."""
    middle = (0.5, 0.5, 0.5)
    return {
        title: Network(load_model(name), input_size=(SIDE, SIDE), mean=middle, std=middle)
        for title, name in MODELS.items()
    }


def methods() -> list[Method]:
    """Every method with its default parameters, in the order of the API."""
    return [METHODS[field.name]() for field in method_pb2.Method.DESCRIPTOR.fields]


def explain(method: Method, network: Network, photograph: Photograph) -> tuple[Explanation, ...]:
    """One explanation for each digit; none where the method does not work on this network."""
    try:
        method.resolve(network)
    except NotApplicableError:
        return ()
    return method.explain(network, photograph.pixels[None], [Classes(photograph.digits)])[0].explanations


def overlay(picture: Pixels, saliency: Tensor) -> Image.Image:
    """A map in colours over the photograph."""
    values = upsample(saliency, (SIDE, SIDE)).clamp(0, 1).numpy()
    colours = mpl.colormaps["viridis"](values)[..., :3] * 255
    return Image.fromarray((OPACITY * colours + (1 - OPACITY) * picture).astype(np.uint8))


class Sheet:
    """A picture of all methods on one photograph: a group of tiles for each, first the photograph itself."""

    def __init__(self, photograph: Photograph, groups: int) -> None:
        self._photograph = photograph
        self._tiles = len(MODELS) * len(photograph.digits)
        self._group_width = self._tiles * (TILE + GAP) + GROUP_GAP
        self._group_height = 2 * TEXT + TILE + GROUP_GAP
        rows = -(-groups // GROUPS_A_ROW)
        size = (GROUPS_A_ROW * self._group_width + GROUP_GAP, rows * self._group_height + GROUP_GAP)
        self.image = Image.new("RGB", size, "white")
        self._draw = ImageDraw.Draw(self.image)
        self._groups = 0

    def add(self, title: str, tiles: list[tuple[str, Image.Image | str]]) -> None:
        """Draw the next group: under its title captions, each with a picture or a word in its place."""
        row, column = divmod(self._groups, GROUPS_A_ROW)
        left, top = GROUP_GAP + column * self._group_width, GROUP_GAP + row * self._group_height
        self._draw.text((left, top), title, fill=INK, font=ImageFont.load_default(13))
        for index, (caption, tile) in enumerate(tiles):
            self._tile(left + index * (TILE + GAP), top + TEXT, caption, tile)
        self._groups += 1

    def _tile(self, left: int, top: int, caption: str, tile: Image.Image | str) -> None:
        self._draw.text((left, top + 2), caption, fill=INK, font=ImageFont.load_default(10))
        corner = (left, top + TEXT)
        if isinstance(tile, str):
            self._draw.rectangle((*corner, corner[0] + TILE - 1, corner[1] + TILE - 1), fill=FAINT)
            self._draw.text((left + 6, top + TEXT + 40), tile, fill=INK, font=ImageFont.load_default(10))
        else:
            self.image.paste(tile.resize((TILE, TILE), Image.Resampling.BICUBIC), corner)


def draw(photograph: Photograph, models: dict[str, Network], progress: "tqdm[object]") -> Image.Image:
    """The sheet of one photograph."""
    chosen = methods()
    sheet = Sheet(photograph, 1 + len(chosen))
    sheet.add("the photograph", [("", Image.fromarray(photograph.picture)), *_predictions(photograph, models)])
    for method in chosen:
        tiles: list[tuple[str, Image.Image | str]] = []
        for title, network in models.items():
            found = explain(method, network, photograph)
            for rank, digit in enumerate(photograph.digits):
                caption = f"{title}: why {digit}?"
                if not found:
                    tiles.append((caption, "not defined"))
                elif found[rank].degenerate:
                    tiles.append((caption, "says nothing"))
                else:
                    tiles.append((caption, overlay(photograph.picture, found[rank].map)))
        sheet.add(method.title, tiles)
        progress.update()
    return sheet.image


def _predictions(photograph: Photograph, models: dict[str, Network]) -> list[tuple[str, Image.Image | str]]:
    """For each model a tile with its probabilities of the digits."""
    tiles: list[tuple[str, Image.Image | str]] = []
    for title, network in models.items():
        probabilities = network.predict(photograph.pixels[None])[0].softmax(dim=0)
        text = "\n".join(f"p({digit}) = {probabilities[digit]:.2f}" for digit in photograph.digits)
        tiles.append((f"the {title} says", text))
    return tiles


def page(stems: tuple[str, ...]) -> str:
    """The Markdown around the sheets."""
    lines = [
        "# Gallery",
        "",
        "`make gallery`",
        "",
        "Every method of the API with its default parameters, on photographs with two handwritten digits that neither",
        "default model has seen in training. Each model is asked twice, once for each digit: a map that shows the",
        "same for both says where the model looks, not why it says what it says. *Not defined*: the method does not",
        "work on this kind of network. *Says nothing*: the map is constant.",
        "",
        "Colours are viridis, from each map's own minimum (dark) to its maximum (yellow): a nearly even map looks as",
        "strong as a sharp one. Maps of either sign (integrated gradients, occlusion, LIME, KernelSHAP) are zero",
        "somewhere in between: dark places there speak against the class.",
        "",
        "Fake-CAM is no explanation: it is 1 everywhere but at one pixel, and exists to show what a metric misses.",
    ]
    for stem in stems:
        lines += ["", f"![Every method on the photograph {stem}](images/gallery_{stem}.png)"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder for gallery.md and images/")
    docs: Path = parser.parse_args().docs
    (docs / "images").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # networks this small are slower on more
    torch.set_flush_denormal(True)
    models, chosen = networks(), photographs()
    with tqdm(total=len(chosen) * len(METHODS), unit="method") as progress:
        for photograph in chosen:
            draw(photograph, models, progress).save(docs / "images" / f"gallery_{photograph.stem}.png", optimize=True)
    (docs / "gallery.md").write_text(page(STEMS))


if __name__ == "__main__":
    main()
