"""Graphs of small networks, each exported once."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from explainers import Network
from runtimes import FastPath, load_fast_path
from runtimes.export import export
from tests.explainers import networks

TAGS = {"whylight.weights": "w"}
# A linear head, a pooled and fully connected one in which cells are compared, and attention behind the layer.
MODELS = {"cam": networks.ResidualCnn, "vgg": networks.vgg, "vit": networks.ViT}
LAYERS = {"vgg": "0.5"}  # before the pooling

Exported = tuple[Network, Path]


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for each operation: on networks this small, more only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """A network by name, and the file of its graph."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("graphs")

    @cache
    def find(name: str) -> Exported:
        network = networks.network(networks.prepare(MODELS[name]()), target_layer=LAYERS.get(name))
        export(network, folder / f"{name}.onnx", TAGS)
        return network, folder / f"{name}.onnx"

    return find


@pytest.fixture(scope="package")
def loaded(exported: Callable[[str], Exported]) -> Callable[[str], tuple[Network, FastPath]]:
    """A network by name, and its fast path."""

    @cache
    def find(name: str) -> tuple[Network, FastPath]:
        network, graph = exported(name)
        return network, load_fast_path(graph, network, TAGS, threads=1)

    return find
