"""What a program costs that is stopped before its end."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.method_cost import Gauge, Spent, extrapolate

STEPS = 10
WEIGHT = torch.rand(4, 4)
PRODUCT = 2 * 4**3


def climb(gauge: Gauge) -> Tensor:
    """Ten steps of a product each, and five products before them."""
    x = WEIGHT
    for _ in range(5):
        x = x @ WEIGHT
    for done in range(STEPS):
        x = x @ WEIGHT
        gauge.step(done + 1, STEPS)
    return x


@pytest.mark.parametrize("seconds", [0.0, 100.0])
def test_whole(seconds: float) -> None:
    """The same operations, stopped or not: what comes before the first step counts once."""
    with FlopCounterMode(display=False) as counter:
        gauge = Gauge(seconds, counter)
        spent = gauge.run(lambda: climb(gauge))
    assert spent.flops == pytest.approx((5 + STEPS) * PRODUCT)
    assert gauge.stopped == (seconds == 0)
    assert (gauge.saliency is None) == gauge.stopped
    assert (counter.get_total_flops() == 7 * PRODUCT) == gauge.stopped  # two steps make a line


def test_line() -> None:
    """Ten seconds for the first tenth, and a second for each further one."""
    first, last = (0.1, Spent(10.0, 100.0)), (0.3, Spent(12.0, 140.0))
    assert extrapolate(first, last) == pytest.approx((19.0, 280.0))


def test_what_cannot_be_stopped() -> None:
    """A program that knows no steps, and one that has a single step, run to their ends."""
    gauge = Gauge(0.0)
    gauge.run(lambda: WEIGHT @ WEIGHT)
    gauge.step(1, 1)
    assert not gauge.stopped
