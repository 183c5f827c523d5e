"""The number formats that a network can compute in. Less exact ones are faster on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import torch

from explainers.network import Network


class Arithmetic(StrEnum):
    """How products are computed.

    FLOAT32 is exact to its 24 bits. TF32 rounds what enters a product to 11 bits, everywhere. BFLOAT16 (8 bits) and
    FLOAT16 (11 bits, overflows above 65504) are torch's autocast in the passes of the network; what a method does with
    their outcome stays in float32.
    """

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


_CONVOLUTIONS: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
_MATRICES: Any = torch.backends.cuda.matmul
AUTOCAST = {Arithmetic.BFLOAT16: torch.bfloat16, Arithmetic.FLOAT16: torch.float16}


@contextmanager
def computing(network: Network, arithmetic: Arithmetic) -> Iterator[Network]:
    """The network in an arithmetic, for the time of a call.

    TF32 is a switch of the whole process: meanwhile other threads compute so, too. Nothing else knows of others.
    """
    if arithmetic is Arithmetic.TF32:
        with _products("tf32"):
            yield network
    else:
        dtype = AUTOCAST.get(arithmetic)
        yield network if dtype is None else network.in_autocast(dtype)


def exact_float32() -> None:
    """Let FLOAT32 be what it says: by default torch computes convolutions on a GPU in TF32. For the whole process."""
    _set_products("ieee", "ieee")


@contextmanager
def _products(precision: str) -> Iterator[None]:
    before = _CONVOLUTIONS.fp32_precision, _MATRICES.fp32_precision
    _set_products(precision, precision)
    try:
        yield
    finally:
        _set_products(*before)


def _set_products(convolutions: str, matrices: str) -> None:
    _CONVOLUTIONS.fp32_precision = convolutions
    _MATRICES.fp32_precision = matrices
