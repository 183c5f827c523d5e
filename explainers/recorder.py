"""Records the activation of a layer and the gradient of the scores with respect to it, or changes the activation.

The tape starts at the layer: a hook cuts the graph there, so everything before runs as in a plain forward pass and the
backward pass sees only what comes after.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from explainers.errors import NotApplicableError
from explainers.grid import Layout
from explainers.layers import SpatialCall

Edit = Callable[[Tensor], Tensor]
"""Takes an activation of shape (n, channels, h, w) to a changed one; it must not write the one that it gets."""


class _Visitor(Protocol):
    """Looks at the wanted layers of one forward pass."""

    owner: "Recorder"
    paths: frozenset[str]

    def visit(self, path: str, output: Tensor) -> Tensor | None:
        """What the network shall go on with in place of a layer's output; None to leave it."""
        ...


class _Tape:
    """What one forward pass records: the tensor at each wanted layer."""

    def __init__(self, owner: "Recorder", ordinals: dict[str, int]) -> None:
        self.owner = owner
        self.paths = frozenset(ordinals)
        self.points: dict[str, Tensor] = {}
        self._calls_left = dict(ordinals)

    def visit(self, path: str, output: Tensor) -> Tensor | None:
        self._calls_left[path] -= 1
        if self._calls_left[path] != 0:
            return None
        # Where an earlier recorded layer already feeds this one, the graph must go on through it.
        point = output if output.requires_grad else output.detach().requires_grad_()
        self.points[path] = point
        with torch.enable_grad():  # the network may run its trunk without gradients
            return point.clone()  # what follows may write it in place, and a recorded value must stay


class _Change:
    """Changes the output of one call of one layer in one forward pass."""

    def __init__(self, owner: "Recorder", layer: SpatialCall, edit: Edit) -> None:
        self.owner = owner
        self.paths = frozenset({layer.call.path})
        self._layout = layer.layout
        self._calls_left = layer.ordinal
        self._edit = edit

    def visit(self, _path: str, output: Tensor) -> Tensor | None:
        self._calls_left -= 1
        if self._calls_left != 0:
            return None
        return self._layout.restore(self._edit(self._layout.grid(output)), output)


# A thread or a task sees only its own visitor, so any number of them can run through the same modules.
_active: ContextVar[_Visitor | None] = ContextVar("explainers_active_visitor", default=None)


class Recording:
    """One forward pass, stopped in time: ask it for as many gradients as there are targets.

    Attributes:
        logits: shape (batch, classes), detached.
        graph_logits: the same with their graph, which starts at the recorded layers, or where the inputs' graph does.
    """

    def __init__(self, logits: Tensor, points: dict[str, Tensor], layouts: dict[str, Layout]) -> None:
        self.logits = logits.detach()
        self.graph_logits = logits
        self._points = points
        self._layouts = layouts

    @property
    def activation(self) -> Tensor:
        """Activation of the first recorded layer, shape (batch, channels, h, w), detached."""
        return next(iter(self.activations().values()))

    def gradient(self, seed: Tensor) -> Tensor:
        """Gradient of sum(seed * logits) with respect to the first recorded layer's activation.

        Args:
            seed: shape (batch, classes): a one-hot row asks for one class, a difference of two contrasts them.

        Returns:
            Shape (batch, channels, h, w), as the activation.
        """
        return next(iter(self.gradients(seed).values()))

    def activations(self) -> dict[str, Tensor]:
        """Activation of every recorded layer by path."""
        return {path: _grid(self._layouts[path], point.detach()) for path, point in self._points.items()}

    def gradients(self, seed: Tensor) -> dict[str, Tensor]:
        """Gradient of sum(seed * logits) for every recorded layer by path."""
        gradients = torch.autograd.grad(
            self.graph_logits,
            list(self._points.values()),
            seed.to(self.graph_logits),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return {path: _grid(self._layouts[path], value) for path, value in zip(self._points, gradients, strict=True)}


class Recorder:
    """Runs a shadow network and records layers of it. Safe from many threads at once."""

    def __init__(self, shadow: nn.Module) -> None:
        self._shadow = shadow
        self._hooked: set[str] = set()
        self._lock = threading.Lock()

    def record(self, inputs: Tensor, layers: Sequence[SpatialCall], *, gradients: bool = True) -> Recording:
        """Run the network once.

        Args:
            inputs: normalised images.
            layers: those wanted, in the order in which the recording shall have them.
            gradients: whether the recording will be asked for some.

        Raises:
            NotApplicableError: a wanted layer did not run or, for gradients, no differentiable way leads to the logits.
        """
        layouts = {layer.call.path: layer.layout for layer in layers}
        self._hook(layouts)
        tape = _Tape(self, {layer.call.path: layer.ordinal for layer in layers})
        with torch.inference_mode(False), torch.set_grad_enabled(gradients):
            logits = self._run(inputs, tape)
        if tape.points.keys() != layouts.keys() or (gradients and not logits.requires_grad):
            raise NotApplicableError("the scores don't depend on the layer in a differentiable way")
        return Recording(logits, {path: tape.points[path] for path in layouts}, layouts)

    def change(self, inputs: Tensor, layer: SpatialCall, edit: Edit) -> Tensor:
        """Logits of the network with the output of one layer changed; no gradients.

        Args:
            inputs: normalised images.
            layer: the one to change.
            edit: what to do with the output, seen as (n, channels, h, w).
        """
        self._hook([layer.call.path])
        with torch.inference_mode():
            return self._run(inputs, _Change(self, layer, edit))

    def no_new_hooks(self) -> AbstractContextManager[object]:
        """While it is entered no thread puts a hook on the network, so that its modules can be copied."""
        return self._lock

    def _run(self, inputs: Tensor, visitor: _Visitor) -> Tensor:
        token = _active.set(visitor)
        try:
            logits: Tensor = self._shadow(inputs)
        finally:
            _active.reset(token)
        return logits

    def _hook(self, paths: Iterable[str]) -> None:
        """Put a hook on each layer once, for good: one that does nothing unless its own thread is looking."""
        with self._lock:
            for path in set(paths) - self._hooked:
                self._shadow.get_submodule(path).register_forward_hook(self._make_hook(path))
                self._hooked.add(path)

    def _make_hook(self, path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
            visitor = _active.get()
            if visitor is None or visitor.owner is not self or path not in visitor.paths:
                return None
            return visitor.visit(path, output)

        return hook


def _grid(layout: Layout, tensor: Tensor) -> Tensor:
    grid = layout.grid(tensor)
    return grid if grid.dtype == torch.float64 else grid.float()
