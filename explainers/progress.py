"""Counts the passes of a method that works in steps, and tells its watch."""

import math

from explainers.watch import Watch


class Progress:
    """One for each call of a method: how far it is.

    Attributes:
        done: steps that are done.
    """

    def __init__(self, total: int, watch: Watch | None, *, stops: bool = True) -> None:
        """Begin.

        Args:
            total: steps that there will be.
            watch: is told of each, where there is one.
            stops: whether the watch may ask to stop; not where there is no map before the last step.
        """
        self.done = 0
        self._total = total
        self._watch = watch
        self._stops = stops

    def step(self, objective: float = math.nan, count: int = 1) -> bool:
        """Note that `count` steps are done, and say whether to stop; passes on what the watch raises."""
        self.done += count
        wants_to = self._watch is not None and bool(self._watch.step(self.done, self._total, objective))
        return wants_to and self._stops
