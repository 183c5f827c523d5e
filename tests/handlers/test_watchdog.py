"""A worker does not outlive the process that started it."""

import subprocess
import sys
import time

# The outer process stands for Java, the inner one for a worker in the middle of a computation.
WORKER = """
import sys
from handlers.watchdog import exit_with_parent
exit_with_parent()
print("watching", flush=True)
while True:
    sum(range(1000))
"""
PARENT = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {WORKER!r}]).wait()
"""


def test_worker_ends_with_its_parent() -> None:
    """`kill -9` on the parent; the worker's end of the pipe closes soon after."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent, parent.stdout as pipe:
        assert pipe.readline() == b"watching\n"
        time.sleep(0.7)
        parent.kill()
        started = time.monotonic()
        assert pipe.read() == b""  # returns when the last process that could write has ended
        assert time.monotonic() - started < 5
