"""Torch networks as ONNX files, as their owners export them."""

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch import nn

from tests.tiny import manifest_text, sha256, tiny_network

SIDE = 32


def write_onnx(model: nn.Module, path: Path, *, fixed: bool = False, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Export a network by the exporter that writes the plainest graph, with a dynamic batch or one of 1."""
    axes = None if fixed else {"images": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.rand(1 if fixed else 2, 3, *size),),
            path,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes=axes,
            dynamo=False,
        )
    return path


def changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """The file after `change` has been at its model."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def write_tiny_onnx(folder: Path, callable_name: str = "Tiny", extra: str = "") -> Path:
    """`tests.tiny.write_tiny` with an ONNX file as the whole model; returns the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_onnx(tiny_network(callable_name), folder / "net.onnx")
    manifest = folder / "models.toml"
    manifest.write_text(manifest_text("onnx:net.onnx", sha256(path), extra=extra))
    return manifest
