"""The real networks as torch modules, with the photographs as their input."""

import importlib.util
from functools import cache
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from explainers import Network
from tests import real


@cache
def architectures() -> ModuleType:
    """The architectures file of the real networks."""
    spec = importlib.util.spec_from_file_location("real_architectures", real.require_real() / "architectures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def prepared(name: str) -> tuple[nn.Module, Network, Tensor]:
    """A real network, ready to explain, and every photograph for it; skips the test where there are none."""
    pil = pytest.importorskip("PIL.Image")
    module = architectures()
    _, side, (mean, std), _ = module.MODELS[name]
    model = module.load(name)
    images = torch.stack([module.pixels(name, pil.open(path)) for path in real.photographs()])
    return model, Network(model, input_size=(side, side), mean=mean, std=std), images
