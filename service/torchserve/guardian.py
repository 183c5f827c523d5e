"""A small process between the service and Java, which makes sure that nothing of TorchServe outlives the service.

Run as a program of its own, it starts the given command and waits for whatever comes first:

- the command ends: its exit status becomes the guardian's;
- a byte on standard input: the service asks for an orderly stop. SIGTERM, and after the grace period SIGKILL;
- end of file on standard input: the service is gone, however it died, kill -9 included. SIGKILL at once.

Each time it then kills every process that is left below it and removes the run directory. A child's workers become its
own children (it is a "subreaper"), so none escapes and none stays behind as a zombie where process 1 collects none.

Should the guardian itself be killed, Java gets SIGTERM from the kernel, and the service kills the rest of the session.

Standard library only: it is started with `python -I -S`, which takes 20 ms.
"""

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_INTERVAL = 0.02  # seconds between two looks at what is left
_NICENESS = 3  # of TorchServe: the service's processes get twice its share where both have more to do than there is


class ProcessInfo(NamedTuple):
    """One process of this machine."""

    pid: int
    parent: int
    session: int
    zombie: bool


def processes() -> Iterator[ProcessInfo]:
    """Every process of this machine that can be seen from here."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has just ended
        # The program's name, in parentheses, may hold anything.
        state, parent, _group, session = stat.rpartition(")")[2].split()[:4]
        yield ProcessInfo(int(entry.name), int(parent), int(session), state == "Z")


def kill_session(session: int) -> list[int]:
    """Send SIGKILL to every living process of a session and return their ids."""
    members = [process.pid for process in processes() if process.session == session and not process.zombie]
    for pid in members:
        _kill(pid)
    return members


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_descendants() -> None:
    """Kill the children until there are none: those of a dead child become this process's own."""
    while True:
        for process in processes():
            if process.parent == os.getpid():
                _kill(process.pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_KILL_INTERVAL)


def _set_process_option(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _give_way() -> None:
    """Let the service go first: it refuses in a millisecond what has no room, if it only gets a processor."""
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # Linux may share processors by session: niceness then counts only within it
        Path("/proc/self/autogroup").write_text(str(_NICENESS), encoding="ascii")


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    guardian = os.getpid()

    def die_with_guardian() -> None:
        _set_process_option(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != guardian:  # it died before the kernel was told
            os._exit(1)

    return subprocess.Popen(  # noqa: S603 - the service's own command line
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_guardian,  # safe: there is one thread only
    )


def _watch(command: "subprocess.Popen[bytes]", grace: float) -> int:
    """Wait as the module says. Returns the exit status of the command as a shell gives it."""
    command_ends = os.pidfd_open(command.pid)
    ready, _, _ = select.select([sys.stdin, command_ends], [], [])
    if command_ends not in ready and os.read(sys.stdin.fileno(), 1):
        command.terminate()
        select.select([sys.stdin, command_ends], [], [], grace)  # the service may still die meanwhile
    if command.poll() is None:
        command.kill()
    status = command.wait()
    return 128 - status if status < 0 else status


def main() -> int:
    """The guardian's whole life."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--grace", type=float, required=True, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument(
        "--directory", type=Path, required=True, help="run directory: start there, remove it at the end"
    )
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    _set_process_option(_PR_SET_CHILD_SUBREAPER, 1)
    _give_way()
    os.chdir(arguments.directory)
    try:
        return _watch(_start(arguments.command), arguments.grace)
    finally:
        _kill_descendants()
        shutil.rmtree(arguments.directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
