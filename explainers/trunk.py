"""What comes before a transformer's first block: from images to tokens."""

import copy
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from explainers.errors import NotApplicableError


class _Arrived(Exception):  # noqa: N818  # it carries a result
    """Ends a forward pass at the first block."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens


# A thread or a task sees only its own: for everyone else the network runs on to its logits.
_running: ContextVar["Trunk | None"] = ContextVar("explainers_running_trunk", default=None)


class Trunk:
    """Runs a network up to the first of its blocks. Safe from many threads at once."""

    def __init__(self, network: nn.Module, blocks: tuple[str, ...]) -> None:
        """Put a hook on the first block, for good: one that does nothing unless its own thread runs this trunk.

        Args:
            network: the shadow of a model (`explainers.shadow`).
            blocks: module paths of the blocks, in the order of execution.
        """
        self._network = network
        self._blocks = blocks
        network.get_submodule(blocks[0]).register_forward_pre_hook(self._stop, with_kwargs=True)

    def tokens(self, inputs: Tensor) -> Tensor:
        """What enters the first block, (batch, tokens, D), without gradients.

        Args:
            inputs: normalised images. In another precision than the network's, the trunk is copied to that one first.

        Raises:
            NotApplicableError: this input never reaches the first block.
        """
        network = self._network
        parameter = next(network.parameters())
        if inputs.dtype != parameter.dtype:
            return Trunk._converted(self, inputs.dtype).tokens(inputs)
        running = _running.set(self)
        try:
            with torch.no_grad():
                network(inputs)
        except _Arrived as arrived:
            return arrived.tokens
        finally:
            _running.reset(running)
        raise NotApplicableError("the network does not always run its attention blocks")

    def _converted(self, dtype: torch.dtype) -> "Trunk":
        """The trunk with its own weights in another precision, and nothing where the blocks were."""
        emptied = {id(self._network.get_submodule(path)): nn.Identity() for path in self._blocks}
        with torch.no_grad():
            return Trunk(copy.deepcopy(self._network, emptied).to(dtype), self._blocks)

    def _stop(self, _block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if _running.get() is self:
            raise _Arrived(inputs[0] if inputs else next(iter(named.values())))
