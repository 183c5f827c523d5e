"""A tiny model with a graph for ONNX Runtime, for tests that need one in an archive."""

from pathlib import Path

import pytest
import torch

from handlers.fast_path import tags
from handlers.loading import load_model
from tests.tiny import sha256, unpack, write_tiny


def write_tiny_graph(folder: Path, callable_name: str = "Tiny") -> Path:
    """`write_tiny` with its graph; returns the manifest's path. Skips the test where it can't be exported."""
    for module in ("onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    from runtimes.export import export

    manifest = write_tiny(folder, callable_name)
    model = load_model(unpack(manifest, folder / "plain"), torch.device("cpu"))
    graph = folder / "tiny.onnx"
    export(model.network, graph, tags(model.document))
    manifest.write_text(manifest.read_text() + f'[models.onnx]\ngraph = "tiny.onnx"\nsha256 = "{sha256(graph)}"\n')
    return manifest
