"""Counts the passes of a method that works in steps, and tells its watch."""

import math

from explainers.watch import Watch


class Progress:
    """One for each call of a method: how far it is.

    Attributes:
        done: steps that are done.
    """

    def __init__(self, total: int, watch: Watch | None) -> None:
        """Begin.

        Args:
            total: steps that there will be.
            watch: is told of each, where there is one.
        """
        self.done = 0
        self._total = total
        self._watch = watch

    def step(self, objective: float = math.nan) -> bool:
        """Note that a step is done, and say whether the watch asks to stop; passes on what the watch raises."""
        self.done += 1
        return self._watch is not None and bool(self._watch.step(self.done, self._total, objective))
