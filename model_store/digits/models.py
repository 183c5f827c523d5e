"""The default models by name: where their weights lie, and how images become their input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model_store.digits.cnn import DigitsCNN
from model_store.digits.vit import DigitsViT

MODELS: Mapping[str, type[DigitsCNN] | type[DigitsViT]] = {"cnn": DigitsCNN, "vit": DigitsViT}

WEIGHTS_FOLDER = Path(__file__).parent.parent / "weights"


def load_model(name: str, weights: Path | None = None) -> nn.Module:
    """The trained model `name` ("cnn" or "vit") in eval mode, on the CPU, in float32.

    weights: a safetensors file; None takes the committed one. Every tensor must be there, and no other.
    """
    model = MODELS[name]()
    tensors = load_file(weights or WEIGHTS_FOLDER / f"digits_{name}.safetensors")
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def normalise(pixels: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32 in [-1, 1]: mean 0.5 and standard deviation 0.5 per channel."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
