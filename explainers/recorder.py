"""Records the activation of a layer and the gradient of the scores with respect to it.

The tape starts at the layer: a hook cuts the graph there, so everything before runs as in a plain forward pass and the
backward pass sees only what comes after.
"""

import threading
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from explainers.errors import NotApplicableError
from explainers.grid import Layout


class _Tape:
    """What one forward pass records: the tensor at each wanted layer."""

    def __init__(self, owner: "Recorder", paths: frozenset[str]) -> None:
        self.owner = owner
        self.paths = paths
        self.points: dict[str, Tensor] = {}


# A thread or a task sees only its own tape, so any number of them can run through the same modules.
_active: ContextVar[_Tape | None] = ContextVar("explainers_active_tape", default=None)


class Recording:
    """One forward pass, stopped in time: ask it for as many gradients as there are targets.

    Attributes:
        logits: shape (batch, classes), detached.
    """

    def __init__(self, logits: Tensor, points: dict[str, Tensor], layouts: dict[str, Layout]) -> None:
        self.logits = logits.detach()
        self._graph_logits = logits
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
            self._graph_logits,
            list(self._points.values()),
            seed.to(self._graph_logits),
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

    def record(self, inputs: Tensor, layouts: dict[str, Layout]) -> Recording:
        """Run the network once.

        Args:
            inputs: normalised images.
            layouts: layout of each wanted layer by path, in the order in which the recording shall have them.

        Raises:
            NotApplicableError: no differentiable way leads from a wanted layer to the logits.
        """
        self._hook(layouts)
        tape = _Tape(self, frozenset(layouts))
        with torch.inference_mode(False), torch.enable_grad():
            token = _active.set(tape)
            try:
                logits = self._shadow(inputs)
            finally:
                _active.reset(token)
        if tape.points.keys() != layouts.keys() or not logits.requires_grad:
            raise NotApplicableError("the scores don't depend on the layer in a differentiable way")
        return Recording(logits, {path: tape.points[path] for path in layouts}, layouts)

    def _hook(self, paths: dict[str, Layout]) -> None:
        """Put a hook on each layer once, for good: one that does nothing unless its own thread is recording."""
        with self._lock:
            for path in paths.keys() - self._hooked:
                self._shadow.get_submodule(path).register_forward_hook(self._make_hook(path))
                self._hooked.add(path)

    def _make_hook(self, path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
            tape = _active.get()
            if tape is None or tape.owner is not self or path not in tape.paths:
                return None
            # Where an earlier recorded layer already feeds this one, the graph must go on through it.
            point = output if output.requires_grad else output.detach().requires_grad_()
            tape.points[path] = point
            with torch.enable_grad():  # the network may run its trunk without gradients
                return point.clone()  # what follows may write it in place, and a recorded value must stay

        return hook


def _grid(layout: Layout, tensor: Tensor) -> Tensor:
    grid = layout.grid(tensor)
    return grid if grid.dtype == torch.float64 else grid.float()
