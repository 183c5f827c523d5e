"""How a caller follows a method that works in steps, and ends it early."""

import abc
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from explainers.network import Network
from explainers.result import ImageResult
from explainers.targets import Targets


class Watch(Protocol):
    """Is told of every step of a method that works in steps.

    There are two ways to end a method before its last step. A true answer asks it to stop here and to answer with the
    best it has found so far: for a deadline. An exception gives it up: it passes through `explain` as it is, and leaves
    nothing behind: for a client that went away.
    """

    def step(self, done: int, total: int, objective: float) -> bool | None:
        """Take note of a step.

        Args:
            done: steps that are done, from 1.
            total: steps that there will be if nobody stops it.
            objective: what the method maximises: the best value so far of each image and target, and their mean.
                Not-a-number while there is none.

        Returns:
            True to stop; nothing, or False, to go on.
        """
        ...


class Stepwise(abc.ABC):
    """A method that works in steps and can be watched: `if isinstance(method, Stepwise)`, hand it a watch."""

    @abc.abstractmethod
    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """As `Method.explain`, and tells `watch` of every step."""
