"""A network to a pure program: images and classes to logits and maps, without hooks, tape or state."""

import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from explainers import Network
from runtimes.decompositions import decompositions
from runtimes.signature import Kind

# While tracing, equal sizes become one: these are equal to no other dimension of a network.
BATCH, TARGETS = 11, 7


@dataclass(frozen=True)
class Program:
    """A traced program: `runtimes.signature` says what it takes and returns.

    Attributes:
        module: the program.
        inputs: with which it was traced.
        kind: what its maps are.
        layer: path of the layer that they explain.
    """

    module: GraphModule
    inputs: tuple[Tensor, Tensor]
    kind: Kind
    layer: str


def trace(network: Network) -> Program:
    """Trace the prediction and the fast map of the target layer, by what `explainers` itself runs.

    Raises:
        NotApplicableError: the network has no layer with a spatial map.
        Exception: whatever torch raises over an operation that can't be traced.
    """
    layer = network.target_layer.path
    head = network.linear_head
    kind: Kind = "cam" if head is not None and layer in head.names else "grad_cam"
    images = torch.rand(BATCH, 3, *network.input_size, device=network.device)
    classes = torch.zeros(BATCH, TARGETS if kind == "cam" else 1, dtype=torch.int64, device=network.device)
    with traceable():
        module = make_fx(
            _program(network, layer, kind),
            decomposition_table=decompositions(),
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
        )(images, classes)
    return Program(module, (images, classes), kind, layer)


def _program(network: Network, layer: str, kind: Kind) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    def grad_cam(images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        recording = network.record(images, layer)
        chosen = _choose(recording.logits, classes)
        gradient = recording.gradient(_seeds(chosen, recording.logits)[:, 0])
        maps = torch.einsum("bk,bkhw->bhw", gradient.mean(dim=(2, 3)), recording.activation)
        return recording.logits.float(), chosen, maps[:, None].float()

    def cam(images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        recording = network.record(images, layer)
        chosen = _choose(recording.logits, classes)
        weights = _seeds(chosen, recording.logits) @ weight
        maps = torch.einsum("btk,bkhw->bthw", weights, recording.activation)
        return recording.logits.float(), chosen, maps.float()

    if kind == "grad_cam":
        return grad_cam
    assert network.linear_head is not None  # noqa: S101  # the kind says so
    weight = network.linear_head.weight.detach()
    return cam


def _choose(logits: Tensor, classes: Tensor) -> Tensor:
    """Put the class of that rank in the place of every negative number."""
    ranked = logits.sort(dim=1, descending=True).indices
    return torch.where(classes < 0, ranked.gather(1, (-1 - classes).clamp(0, logits.shape[1] - 1)), classes)


def _seeds(chosen: Tensor, logits: Tensor) -> Tensor:
    """One-hot rows, shape (batch, targets, classes)."""
    indices = torch.arange(logits.shape[1], device=logits.device)
    return (chosen[:, :, None] == indices).to(logits.dtype)


@contextmanager
def traceable() -> Iterator[None]:
    """Take attention in its parts, and let `len(tensor)` be a size that may change.

    For all threads: export where nothing else computes.
    """
    fast, length = torch.backends.mha.get_fastpath_enabled(), builtins.len

    def symbolic_length(value: Any) -> Any:
        return value.shape[0] if isinstance(value, Tensor) and value.dim() else length(value)

    torch.backends.mha.set_fastpath_enabled(False)
    builtins.len = symbolic_length
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        builtins.len = length
        torch.backends.mha.set_fastpath_enabled(fast)
