"""The gradient of the scores with respect to the pixels, guided at every ReLU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from explainers.abilities import has_rectifiers
from explainers.errors import NotApplicableError
from explainers.network import Network
from explainers.rectifiers import Gate, rectifiers

REFUSAL = "guided backpropagation is defined for networks with ReLUs, and no ReLU leads from the pixels to the scores"


class GuidedGradient:
    """Asks one recorded forward pass for the guided gradients of any number of targets.

    R_in = 1[z>0] 1[R_out>0] R_out at every ReLU with input z, the ordinary gradient everywhere else. Between two calls
    the graph is as it was, so it may also be asked for ordinary gradients.
    """

    def __init__(self, logits: Tensor, pixels: Tensor) -> None:
        """Find the ReLUs.

        Args:
            logits: shape (batch, classes), computed under `VisibleRectifiers` and with their graph.
            pixels: shape (batch, 3, height, width), the leaf of the graph.

        Raises:
            NotApplicableError: the pass executed no ReLU, or runs compiled.
        """
        self._logits = logits
        self._pixels = pixels
        self._rectifiers = rectifiers(logits)
        if not self._rectifiers:
            raise NotApplicableError(REFUSAL)

    def __call__(self, seed: Tensor) -> Tensor:
        """Guided gradient of sum(seed * logits), shape (batch, 3, height, width).

        Args:
            seed: shape (batch, classes).
        """
        with self._guided():
            (gradient,) = torch.autograd.grad(
                self._logits,
                self._pixels,
                seed.to(self._logits),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        return gradient

    @contextmanager
    def _guided(self) -> Iterator[None]:
        handles = [node.register_prehook(_hook(gate)) for node, gate in self._rectifiers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def require_rectifiers(network: Network) -> None:
    """Refuse a network on which guided backpropagation would be the ordinary gradient.

    Raises:
        NotApplicableError: it executes no ReLU, or runs compiled, or the scores don't depend on the pixels in a
            differentiable way.
    """
    if not has_rectifiers(network):
        raise NotApplicableError(REFUSAL)


def _hook(gate: Gate) -> Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def hook(gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (gate(gradients[0]),)

    return hook
