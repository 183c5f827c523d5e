"""CUDA graphs on a CPU: what a capture forbids fails, and a replay writes the captured memory again, in place.

Every operation below autograd is written down with the very tensors that it took and returned. A replay runs them in
that order and puts what they return where it was.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explainers import graphs

aten = torch.ops.aten
# What waits for a value of the GPU, or copies from memory that is not pinned.
FORBIDDEN = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.lift_fresh, aten.equal, aten.is_nonzero}


class CaptureError(RuntimeError):
    """The program can't be captured."""


class Tape(TorchDispatchMode):
    """Writes down every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in FORBIDDEN or _by_mask(func, args):
            raise CaptureError(str(func))
        outcome = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, outcome))
        return outcome

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, outcome in self.operations:
                for own, new in zip(tree_leaves(outcome), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(own, Tensor) and own.data_ptr() != new.data_ptr():  # no view, nor written in place
                        own.copy_(new)


def _by_mask(func: Any, args: Any) -> bool:
    """Whether the shape of what is taken depends on values."""
    indices = tree_leaves(args[1]) if func.overloadpacket is aten.index else []
    return any(index is not None and index.dtype == torch.bool for index in indices)


class FakeGraphs:
    """Counts captures and replays."""

    def __init__(self) -> None:
        self.captures = 0
        self.replays = 0

    def record(self, run: Callable[[], tuple[Tensor, ...]], _device: torch.device) -> Any:
        """As `explainers.graphs.record`."""
        run()  # the warm-up
        with Tape() as tape:
            outputs = run()
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            tape.replay()

        for output in outputs:
            output.detach().fill_(torch.nan if output.is_floating_point() else 0)  # a capture computes nothing
        return replay, outputs


def install(monkeypatch: pytest.MonkeyPatch) -> FakeGraphs:
    """Let programs on the CPU be captured."""
    fake = FakeGraphs()
    monkeypatch.setattr(graphs, "record", fake.record)
    monkeypatch.setattr(graphs, "can_capture", lambda _device: True)
    return fake
