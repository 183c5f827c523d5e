"""What becomes of memory that is free in this process: kept for the next tensor, and given back once a minute."""

import ctypes
import threading
from collections.abc import Callable

PAUSE = 60.0  # seconds; one look takes some milliseconds, and what is asked for again has to be cleared by the kernel
MEBIBYTE = 2**20
# Of malloc.h: the number of each setting, and its value. Tensors above the threshold, 32 MiB being the most there is,
# come from the kernel each by itself.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
SETTINGS = {M_MMAP_THRESHOLD: 32 * MEBIBYTE, M_TRIM_THRESHOLD: 512 * MEBIBYTE, M_TOP_PAD: 64 * MEBIBYTE}


def keep_for_reuse() -> bool:
    """Have the C library keep what is freed; False: it can't be told.

    Every layer of a network frees what the one before it made. glibc gives tensors of that size back to the kernel at
    once, which then clears every page of the next one: up to half of the time of a forward pass on a CPU
    (docs/performance.md). Only glibc and its likes have mallopt.
    """
    mallopt = _of_the_c_library("mallopt")
    return mallopt is not None and all(mallopt(number, value) for number, value in SETTINGS.items())


def give_back() -> bool:
    """Give back what the C library keeps of the memory that was freed; False: it keeps none, or can't be asked.

    Maps come in many sizes, and glibc keeps the holes that they leave: a worker grows for hours until each size has
    been asked for. Only glibc has malloc_trim.
    """
    malloc_trim = _of_the_c_library("malloc_trim")
    return malloc_trim is not None and bool(malloc_trim(0))


def keep_giving_back(pause: float = PAUSE) -> threading.Event:
    """Start a thread that calls `give_back` every `pause` seconds, until the event is set or this process ends."""
    stop = threading.Event()
    threading.Thread(target=_until, args=(stop, pause), name="give back memory", daemon=True).start()
    return stop


def _of_the_c_library(name: str) -> Callable[..., int] | None:
    """A function by its name; None where this C library has none."""
    try:
        function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # Windows has no library None
        return None
    return function


def _until(stop: threading.Event, pause: float) -> None:
    while not stop.wait(pause):
        give_back()
