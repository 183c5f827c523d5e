"""Memory that is free in this process, given back to the system."""

import ctypes
import threading

PAUSE = 60.0  # seconds; one look takes some milliseconds, and what is asked for again has to be cleared by the kernel


def give_back() -> bool:
    """Give back what the C library keeps of the memory that was freed; False: it keeps none, or can't be asked.

    Maps come in many sizes, and glibc keeps the holes that they leave: a worker grows for hours until each size has
    been asked for. Only glibc has malloc_trim.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError, TypeError):  # another C library; Windows has no library None
        return False


def keep_giving_back(pause: float = PAUSE) -> threading.Event:
    """Start a thread that calls `give_back` every `pause` seconds, until the event is set or this process ends."""
    stop = threading.Event()
    threading.Thread(target=_until, args=(stop, pause), name="give back memory", daemon=True).start()
    return stop


def _until(stop: threading.Event, pause: float) -> None:
    while not stop.wait(pause):
        give_back()
