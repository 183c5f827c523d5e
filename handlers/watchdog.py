"""Ends the worker when TorchServe's Java process has died: `kill -9` on Java leaves no orphan behind.

`prctl(PR_SET_PDEATHSIG)` is no way to do it: it fires when the *thread* that started the worker ends, and Java ends
threads while it lives.
"""

import os
import threading
import time

INTERVAL = 0.5
EXIT_STATUS = 3


def exit_with_parent() -> threading.Thread:
    """Watch the parent from now on, in a daemon thread. The process ends within a second of the parent's death."""
    thread = threading.Thread(target=_watch, args=(os.getppid(),), name="watchdog", daemon=True)
    thread.start()
    return thread


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    # Not sys.exit: the main thread may be in the middle of a long computation.
    os._exit(EXIT_STATUS)
