"""Requests of a batch, each by itself, in as many threads as the worker may use."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MOST_THREADS = 4  # each may hold a large image several times while it is decoded
LEAST_BYTES = 65_536  # of all together; smaller images are decoded before a thread has started

Answer = TypeVar("Answer")


def in_parallel(begin: Callable[[object], Answer], bodies: Sequence[object]) -> list[Answer]:
    """What `begin` says of each body, in their order. Pillow and zlib let other threads run while they decode.

    As many threads as torch has, up to `MOST_THREADS`: a worker that gives way to others takes no more here either.
    """
    threads = min(len(bodies), torch.get_num_threads(), MOST_THREADS)
    if threads < 2 or _size(bodies) < LEAST_BYTES:
        return [begin(body) for body in bodies]
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        return list(pool.map(begin, bodies))


def _size(bodies: Sequence[object]) -> int:
    return sum(len(body) for body in bodies if isinstance(body, bytes | bytearray | memoryview))
