"""Counts what a program computes."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def convolution_flops(program: Callable[[], object]) -> int:
    """Of all convolutions and their gradients that a program computes."""
    with FlopCounterMode(display=False) as counter:
        program()
    counts = counter.get_flop_counts()["Global"]
    return sum(count for operation, count in counts.items() if "convolution" in str(operation))
