"""Measure the committed models on held-out data: `python -m model_store.digits.evaluate`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model_store.digits.data import Sample, samples
from model_store.digits.models import MODELS, load_model, normalise

_BATCH = 128


@dataclass(frozen=True)
class Accuracy:
    """Shares 0..1 of the images.

    single: one digit, and the top class is it.
    pair_both: two digits, and the top two classes are exactly these.
    pair_either: two digits, and the top class is one of them.
    """

    single: float
    pair_both: float
    pair_either: float


@torch.inference_mode()
def logits_of(model: nn.Module, images: list[Sample]) -> Tensor:
    """(len(images), classes) float32 logits, computed in batches."""
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    pixels = (torch.from_numpy(np.stack([sample.image for sample in batch])) for batch in batches)
    return torch.cat([model(normalise(batch)) for batch in pixels])


def top_matches(logits: Tensor, images: list[Sample], top: int) -> float:
    """Share 0..1 of the images whose `top` highest classes are all among the image's labels."""
    ranked = logits.topk(top, dim=1).indices.tolist()
    return float(np.mean([set(best) <= set(sample.labels) for best, sample in zip(ranked, images, strict=True)]))


def measure(model: nn.Module, singles: list[Sample], pairs: list[Sample]) -> Accuracy:
    """Measure a model in eval mode on images of one digit and on images of two."""
    pair_logits = logits_of(model, pairs)
    return Accuracy(
        single=top_matches(logits_of(model, singles), singles, top=1),
        pair_both=top_matches(pair_logits, pairs, top=2),
        pair_either=top_matches(pair_logits, pairs, top=1),
    )


def main() -> None:
    """Print a table with one row per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000, help="images of each kind (default: 4000)")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--weights", type=Path, help="folder with digits_MODEL.safetensors (default: the committed)")
    arguments = parser.parse_args()
    singles = list(samples("held_out", arguments.count, arguments.seed, digits=1))
    pairs = list(samples("held_out", arguments.count, arguments.seed, digits=2))
    print(f"{arguments.count} held-out images of each kind, seed {arguments.seed}\n")
    print("| model | parameters | one digit: top 1 | two digits: top 2 are both | two digits: top 1 is either |")
    print("|---|---|---|---|---|")
    for name in MODELS:
        weights = arguments.weights and arguments.weights / f"digits_{name}.safetensors"
        model = load_model(name, weights)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        accuracy = measure(model, singles, pairs)
        shares = " | ".join(f"{share:.2%}" for share in (accuracy.single, accuracy.pair_both, accuracy.pair_either))
        print(f"| {name} | {parameters:,} | {shares} |")


if __name__ == "__main__":
    main()
