"""Ends the worker when TorchServe's Java process has died: `kill -9` on Java leaves no orphan behind.

`prctl(PR_SET_PDEATHSIG)` is no way to do it: it fires when the *thread* that started the worker ends, and Java ends
threads while it lives.
"""

import atexit
import os
import sys
import threading
import time

INTERVAL = 0.5
EXIT_STATUS = 1


def exit_with_parent() -> threading.Thread:
    """Watch the parent from now on, in a daemon thread. The process ends within a second of the parent's death."""
    # A worker that waits sees its socket close and leaves by itself. Tearing torch down would take it seconds, in which
    # it holds its memory and no daemon thread runs any more.
    atexit.register(_leave)
    thread = threading.Thread(target=_watch, args=(os.getppid(),), name="watchdog", daemon=True)
    thread.start()
    return thread


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    # Not sys.exit: the main thread may be in the middle of a long computation.
    os._exit(EXIT_STATUS)


def _leave() -> None:
    sys.stdout.flush()
    os._exit(EXIT_STATUS)
