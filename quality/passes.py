"""Forward passes over more images than go through a network at once, and a way to end them early."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from explainers import ImageResult, Method, Network, Stepwise, Targets

Check = Callable[[], None]
_check: ContextVar[Check | None] = ContextVar("check", default=None)


@contextmanager
def watched(check: Check) -> Iterator[None]:
    """Have `check` called before each part of every pass in this block: in this thread only.

    What it raises ends the metric that is being computed and passes through as it is: for a deadline. Where one block
    is in another, the inner check counts.
    """
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def checkpoint() -> None:
    """Call the check of the `watched` block around this, if there is one."""
    check = _check.get()
    if check is not None:
        check()


def parts(network: Network, rows: Tensor) -> Iterator[Tensor]:
    """Rows, or images, in as many parts as the network needs, with a checkpoint before each."""
    for part in torch.split(rows, network.images_at_once):
        checkpoint()
        yield part


def predict(network: Network, images: Tensor) -> Iterator[Tensor]:
    """Logits of images part by part, float32 on the CPU, shape (part, classes)."""
    for part in parts(network, images):
        yield network.predict(part).cpu()


def explain(method: Method, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
    """`method.explain` with a checkpoint before it, and one at each step of a method that works in steps."""
    checkpoint()
    if isinstance(method, Stepwise):
        return method.explain(network, images, targets, watch=_Checkpoints())
    return method.explain(network, images, targets)


class _Checkpoints:
    """A watch that only checks."""

    def step(self, done: int, total: int, objective: float) -> None:
        """As `explainers.Watch.step`."""
        checkpoint()
