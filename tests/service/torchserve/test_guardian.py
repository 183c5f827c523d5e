"""The guardian ends what it started, whatever happens."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from service.torchserve import guardian

Start = Callable[..., "subprocess.Popen[bytes]"]
# A command with a child in a session of its own; both sleep. The child's id is its first line of output.
FAMILY = """
import os, signal, subprocess, sys, time
if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(100)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a guardian over a Python program; kills it at the end."""
    started = []

    def start(program: str, *arguments: str, grace: float = 5.0) -> "subprocess.Popen[bytes]":
        directory = tmp_path / "run"
        directory.mkdir()
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", guardian.__file__, "--grace", str(grace), "--directory", directory, "--"),
                *(sys.executable, "-c", program, *arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The processes below a guardian, once FAMILY has told the child's id."""
    assert process.stdout
    child = int(process.stdout.readline())
    processes = psutil.Process(process.pid).children(recursive=True)
    assert child in [member.pid for member in processes]
    return processes


def all_gone(processes: list[psutil.Process], within: float) -> bool:
    """Whether every process ends within so many seconds. A zombie has ended; its new parent may be slow to notice."""
    alive = psutil.wait_procs(processes, timeout=within)[1]
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


def send_stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask for an orderly stop, and keep the pipe open."""
    assert process.stdin
    process.stdin.write(b"s")
    process.stdin.flush()


def test_end_of_file_kills_everything_at_once(start: Start, tmp_path: Path) -> None:
    """When the service is gone, nothing stays: no child, no grandchild in another session, no directory."""
    process = start(FAMILY)
    processes = family(process)
    assert process.stdin
    process.stdin.close()
    assert process.wait(timeout=2) == 128 + signal.SIGKILL
    assert all_gone(processes, 0.1)
    assert not (tmp_path / "run").exists()


def test_the_service_goes_first(start: Start) -> None:
    """All of TorchServe is a little nicer than whoever started it, and its session as a whole."""
    running = family(start(FAMILY))[0]
    assert running.nice() == min(19, psutil.Process().nice() + 3)
    group = Path(f"/proc/{running.pid}/autogroup")
    shares = group.read_text().split() if group.exists() else []  # nothing where Linux does not share by session
    assert not shares or shares[-1] == "3"


def test_a_stop_is_polite_first(start: Start) -> None:
    """The command gets SIGTERM and its time, and then its children are killed."""
    process = start(FAMILY)
    processes = family(process)
    send_stop(process)
    assert process.wait(timeout=3) == 128 + signal.SIGTERM
    assert all_gone(processes, 0.1)


def test_who_is_deaf_to_a_stop_is_killed(start: Start) -> None:
    """After the grace period SIGKILL follows."""
    process = start(FAMILY, "deaf", grace=0.3)
    processes = family(process)
    began = time.monotonic()
    send_stop(process)
    assert process.wait(timeout=3) == 128 + signal.SIGKILL
    assert time.monotonic() - began >= 0.3
    assert all_gone(processes, 0.1)


def test_the_service_may_die_during_a_stop(start: Start) -> None:
    """Its end cuts the grace period short."""
    process = start(FAMILY, "deaf", grace=60)
    processes = family(process)
    process.communicate(b"s", timeout=3)
    assert all_gone(processes, 0.1)


def test_the_end_of_the_command_is_passed_on(start: Start, tmp_path: Path) -> None:
    """Its exit status becomes the guardian's, and its children are killed."""
    process = start(FAMILY.replace("time.sleep(100)\n", "sys.exit(7)\n"))
    assert process.stdout
    child = int(process.stdout.readline())
    assert process.wait(timeout=2) == 7
    assert not psutil.pid_exists(child)
    assert not (tmp_path / "run").exists()


def test_a_killed_guardian_takes_the_command_along(start: Start) -> None:
    """The kernel tells the command; the session can then be killed from outside."""
    process = start("import time; print(0, flush=True); time.sleep(100)")
    assert process.stdout
    process.stdout.readline()
    processes = psutil.Process(process.pid).children()
    process.kill()
    assert all_gone(processes, 1)


def test_killing_a_session_spares_the_others(start: Start) -> None:
    """Only processes of that session are killed."""
    process = start("import time; print(0, flush=True); time.sleep(100)")
    assert process.stdout
    process.stdout.readline()
    processes = psutil.Process(process.pid).children()
    assert sorted(guardian.kill_session(process.pid)) == sorted([process.pid, processes[0].pid])
    assert all_gone(processes, 1)
