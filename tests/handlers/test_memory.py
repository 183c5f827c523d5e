"""What is free is used again, and what is not goes back to the system."""

import ctypes
import os
import subprocess
import sys
import threading

import psutil
import pytest

from handlers import memory

BLOCK, BLOCKS = 64 * 1024, 1024  # below the size from which glibc takes every block from the system by itself

glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps what is free")


def resident() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


# Three tensors of 20 MiB are made and freed, again and again, as by the layers of a network. Prints the page faults.
LAYERS = """
import resource
from handlers import memory
{0}
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [bytearray(20 * 2**20) for _ in range(3)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(first: str) -> int:
    """In a process of its own: the setting is for a whole process."""
    return int(subprocess.run([sys.executable, "-c", LAYERS.format(first)], check=True, capture_output=True).stdout)


@glibc
def test_what_is_freed_is_used_again() -> None:
    """Otherwise the kernel clears every page of every tensor anew."""
    assert page_faults("") > 50_000
    assert page_faults("assert memory.keep_for_reuse()") < 500


@glibc
def test_holes_go_back_to_the_system() -> None:
    """Every second block is freed: no end of the heap comes free, so nothing but a trim gives the holes back."""
    blocks = [bytearray(BLOCK) for _ in range(BLOCKS)]
    del blocks[::2]
    before = resident()
    assert memory.give_back()
    assert before - resident() > BLOCK * BLOCKS / 4
    assert len(blocks) == BLOCKS / 2


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not memory.give_back()
    assert not memory.keep_for_reuse()


def test_it_is_done_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is told to stop."""
    looked = threading.Semaphore(0)
    monkeypatch.setattr(memory, "give_back", looked.release)
    stop = memory.keep_giving_back(0.001)
    try:
        assert all(looked.acquire(timeout=5) for _ in range(3))
    finally:
        stop.set()
