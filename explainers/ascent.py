"""Maximises many functions at once by their gradients, each by itself: no row ever depends on another."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from explainers.watch import Watch

Objective = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor | None]]
"""(parameters (n, k), indices of these rows (n,), whether to compute gradients) to (values (n,), gradients).

Gradients of shape (n, k), or whatever else the rule goes by, in n rows.
"""


class Rule(Protocol):
    """Says where to go next. Holds what it remembers of earlier gradients: one instance for one climb."""

    def move(self, gradient: Tensor) -> Tensor:
        """What to add to the parameters, shape (rows, k), from their gradient, of the objective's shape."""
        ...


class Adam:
    """Adam, Kingma and Ba 2015, with its usual constants: torch.optim.Adam, uphill."""

    EPSILON = 1e-8

    def __init__(self, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self._learning_rate = learning_rate
        self._betas = betas
        self._steps = 0
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0

    def move(self, gradient: Tensor) -> Tensor:
        """As `Rule.move`."""
        self._steps += 1
        beta_1, beta_2 = self._betas
        self._first = beta_1 * self._first + (1 - beta_1) * gradient
        self._second = beta_2 * self._second + (1 - beta_2) * gradient**2
        first = self._first / (1 - beta_1**self._steps)
        second = self._second / (1 - beta_2**self._steps)
        return self._learning_rate * first / (second.sqrt() + self.EPSILON)


def climb(
    objective: Objective,
    start: Tensor,
    rule: Rule,
    steps: int,
    watch: Watch | None = None,
    on_best: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The best parameters that `steps` steps come across.

    A row stops by itself, where it is, when its gradient is zero (nothing would move it) or not finite. The values are
    taken at the start and after every step: `steps` + 1 times, the last time without a gradient.

    Args:
        objective: what to maximise, for each row.
        start: where to start, shape (rows, k).
        rule: how to step.
        steps: how often, at least 1.
        watch: is told of every step and may stop all rows.
        on_best: gets the best parameters so far, shape (rows, k), before `watch` is told.

    Returns:
        Shape (rows, k): for each row its parameters of highest value, the earliest of equal ones. A row whose values
        are never a number stays at its start.
    """
    parameters, best = start.clone(), start.clone()
    highest = start.new_full((len(start),), -torch.inf)
    rows = torch.arange(len(start), device=start.device)
    for done in range(steps + 1):
        values, gradients = objective(parameters[rows], rows, done < steps)
        better = rows[values > highest[rows]]
        best[better] = parameters[better]
        highest[rows] = torch.fmax(highest[rows], values)  # fmax passes over not-a-number
        if done and on_best is not None:
            on_best(best)
        if done and watch is not None and watch.step(done, steps, _mean(highest)):
            break
        if gradients is None:
            break
        flat = gradients.flatten(1)
        moving = flat.isfinite().all(dim=1) & flat.any(dim=1)
        rows = rows[moving]
        if not len(rows):
            break
        gradient = parameters.new_zeros(len(parameters), *gradients.shape[1:])
        gradient[rows] = gradients[moving].to(gradient)
        parameters[rows] += rule.move(gradient)[rows]
    return best


def _mean(values: Tensor) -> float:
    """Of those that are finite; not-a-number where none is."""
    return float(values[values.isfinite()].mean())
