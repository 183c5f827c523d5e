"""How a caller follows a method that works in steps, and ends it early."""

import abc
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from explainers.network import Network
from explainers.result import ImageResult
from explainers.targets import Targets


class Watch(Protocol):
    """Is told of every step of a method that works in steps.

    There are two ways to end a method before its last step. A true answer asks it to stop here and to answer with the
    best it has found so far, where the method can (`Stepwise.partial`); the others go on, as after a false one. An
    exception gives any method up: it passes through `explain` as it is, and leaves nothing behind: for a deadline, or
    for a client that went away.
    """

    def step(self, done: int, total: int, objective: float) -> bool | None:
        """Take note of a step.

        Args:
            done: steps that are done, from 1.
            total: steps that there will be if nobody stops it; the same in every call.
            objective: of a method that maximises something, the best value so far of each image and target, and their
                mean. Not-a-number while there is none, and from the methods that maximise nothing.

        Returns:
            True to stop; nothing, or False, to go on.
        """
        ...


@runtime_checkable
class MapWatch(Watch, Protocol):
    """A watch that may also want to see the maps so far."""

    def wants_maps(self) -> bool:
        """Whether it wants to see them with the step that is about to be told."""
        ...

    def maps(self, results: list[ImageResult]) -> None:
        """Take the maps so far: what the method would answer if it were stopped now, one result for each image."""
        ...


def show(watch: Watch | None, results: Callable[[], list[ImageResult]]) -> None:
    """Let a watch see the maps so far where it wants to, before it is told of the step; else they are not made.

    For methods whose maps so far cost little beside a step.
    """
    if isinstance(watch, MapWatch) and watch.wants_maps():
        watch.maps(results())


class Stepwise(abc.ABC):
    """A method that works in steps and can be watched: `if isinstance(method, Stepwise)`, hand it a watch.

    A step is as many forward passes as go through the network at once, for whatever images: what happens between two
    looks at a deadline. Where the answer takes no such passes (Ablation-CAM in closed form) the watch hears nothing.

    Attributes:
        partial: what there is after some of the steps is an answer by itself, such as a mean over fewer samples, and a
            watch may stop the method there. Otherwise it isn't: a half-scanned image is no map.
    """

    partial: ClassVar[bool] = True

    @abc.abstractmethod
    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """As `Method.explain`, and tells `watch` of every step."""
