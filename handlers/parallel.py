"""Requests of a batch, each by itself, in several threads where a GPU computes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MOST_THREADS = 4  # each may hold a large image several times while it is decoded
LEAST_BYTES = 65_536  # of all together; smaller images are decoded before a thread has started

Answer = TypeVar("Answer")


def threads_beside(device: torch.device) -> int:
    """How many threads a worker may decode with: one where the processors are what computes, as several cost more.

    As many as torch has otherwise: a worker that gives way to others takes no more here either.
    """
    return min(torch.get_num_threads(), MOST_THREADS) if device.type == "cuda" else 1


def in_parallel(begin: Callable[[object], Answer], bodies: Sequence[object], threads: int) -> list[Answer]:
    """What `begin` says of each body, in their order. Pillow lets other threads run while it decodes."""
    if min(threads, len(bodies)) < 2 or _size(bodies) < LEAST_BYTES:
        return [begin(body) for body in bodies]
    with ThreadPoolExecutor(min(threads, len(bodies)), thread_name_prefix="decode") as pool:
        return list(pool.map(begin, bodies))


def _size(bodies: Sequence[object]) -> int:
    return sum(len(body) for body in bodies if isinstance(body, bytes | bytearray | memoryview))
