"""The supervisor over a pretended Java: fast, and every way of failing at will."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from service.torchserve import process as process_module
from service.torchserve import supervisor as module
from service.torchserve.errors import StartError
from service.torchserve.supervisor import ServedModel, Supervisor, SupervisorOptions

FAKE_JAVA = Path(__file__).with_name("fake_java.py")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Any file."""
    archive = tmp_path / "net.mar"
    archive.write_bytes(b"archive")
    return archive


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., SupervisorOptions]:
    """Options with the pretended Java, all of whose directories are in `tmp_path`/runs."""
    java = tmp_path / "java"
    java.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE_JAVA} "$@"\n')
    java.chmod(0o755)
    runs = Path(tmp_path / "runs")
    runs.mkdir()

    def options(behaviour: str = "serve", start_timeout: float = 10.0) -> SupervisorOptions:
        environment = {"WHYLIGHT_TEST_JAVA": behaviour}
        return SupervisorOptions(
            java=java, run_parent=runs, environment=environment, start_timeout=start_timeout, grace=2
        )

    return options


def below() -> list[psutil.Process]:
    """The living processes below this one that a supervisor of these tests has started; other tests have their own."""
    return [process for process in psutil.Process().children(recursive=True) if _is_ours(process)]


def _is_ours(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "WHYLIGHT_TEST_JAVA" in process.environ()
    except psutil.Error:  # it has just ended
        return False


def run_directories(tmp_path: Path) -> list[Path]:
    """What is left of runs."""
    return list((tmp_path / "runs").iterdir())


async def test_one_life(archive: Path, options: Callable[..., SupervisorOptions], tmp_path: Path) -> None:
    """It runs after start(), in a private directory, and leaves nothing after stop()."""
    changes = []
    supervisor = Supervisor([ServedModel("net", "1.0", archive)], options(), lambda: changes.append(supervisor.running))
    with pytest.raises(RuntimeError):
        _ = supervisor.endpoint
    await supervisor.start()
    assert supervisor.running
    assert len(below()) == 2
    [directory] = run_directories(tmp_path)
    assert supervisor.endpoint.management == f"unix:{directory}/management.sock"
    assert supervisor.endpoint.read_keys().management == "m"
    await supervisor.stop()
    await supervisor.stop()
    assert (below(), run_directories(tmp_path), changes) == ([], [], [True, False])


async def test_the_environment_is_chosen(
    archive: Path, options: Callable[..., SupervisorOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers get what they need, not the secrets that the service was started with."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("TS_CONFIG_FILE", "/etc/passwd")
    monkeypatch.setenv("WHYLIGHT_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    supervisor = Supervisor([ServedModel("net", "1.0", archive)], options())
    await supervisor.start()
    java = max(below(), key=lambda process: process.pid)
    environment = java.environ()
    await supervisor.stop()
    assert {"WHYLIGHT_THREADS", "OMP_NUM_THREADS", "PATH", "TMPDIR"} <= environment.keys()
    assert not {"AWS_SECRET_ACCESS_KEY", "TS_CONFIG_FILE"} & environment.keys()


@pytest.mark.parametrize("victim", [0, 1], ids=["guardian", "java"])
async def test_a_killed_process_comes_back(
    archive: Path, options: Callable[..., SupervisorOptions], victim: int, tmp_path: Path
) -> None:
    """Whichever of the two is killed, both are there again soon, with other sockets and nothing left over."""
    supervisor = Supervisor([ServedModel("net", "1.0", archive)], options())
    await supervisor.start()
    before, old = supervisor.endpoint, below()
    sorted(old, key=lambda process: process.pid)[victim].kill()
    async with asyncio.timeout(5):
        while supervisor.restarts == 0 or not supervisor.running:
            await asyncio.sleep(0.01)
    assert supervisor.endpoint != before
    assert not {process.pid for process in old} & {process.pid for process in below()}
    assert len(run_directories(tmp_path)) == 1
    await supervisor.stop()
    assert (below(), run_directories(tmp_path)) == ([], [])


async def test_restarts_slow_down(
    archive: Path, options: Callable[..., SupervisorOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that keeps ending is started again for ever, with growing pauses; stop() ends a pause at once."""
    monkeypatch.setattr(module, "BACKOFF", (0.01, 0.1, 30.0))
    supervisor = Supervisor([ServedModel("net", "1.0", archive)], options("short"))
    await supervisor.start()
    async with asyncio.timeout(10):
        while supervisor.restarts < 2 or supervisor.running:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert supervisor.restarts == 2
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 1


async def test_a_start_that_fails(
    archive: Path, options: Callable[..., SupervisorOptions], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Java's last words are in the log, and nothing is left."""
    supervisor = Supervisor([ServedModel("net", "1.0", archive)], options("exit"))
    with caplog.at_level(logging.WARNING), pytest.raises(StartError, match="status 1"):
        await supervisor.start()
    assert "port is taken" in caplog.text
    assert (below(), run_directories(tmp_path)) == ([], [])
    await supervisor.stop()


async def test_a_start_that_takes_too_long(
    archive: Path, options: Callable[..., SupervisorOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Java that never answers is an error after the timeout."""
    monkeypatch.setattr(module, "_START_ATTEMPTS", 1)
    with pytest.raises(StartError, match=r"within 0\.3 seconds"):
        await Supervisor([ServedModel("net", "1.0", archive)], options("hang", start_timeout=0.3)).start()
    assert below() == []


async def test_a_cancelled_start_leaves_nothing(
    archive: Path, options: Callable[..., SupervisorOptions], tmp_path: Path
) -> None:
    """Ctrl-C while it starts."""
    start = asyncio.create_task(Supervisor([ServedModel("net", "1.0", archive)], options("hang")).start())
    await asyncio.sleep(0.3)
    assert below()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert (below(), run_directories(tmp_path)) == ([], [])


async def test_a_missing_archive(options: Callable[..., SupervisorOptions], tmp_path: Path) -> None:
    """TorchServe would only warn in its log."""
    with pytest.raises(StartError, match="archive of net is missing"):
        await Supervisor([ServedModel("net", "1.0", tmp_path / "no.mar")], options()).start()


async def test_a_stopped_guardian_is_overcome(
    archive: Path, options: Callable[..., SupervisorOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the guardian does nothing any more, everything ends."""
    monkeypatch.setattr(process_module, "_GUARDIAN_TIME", 0.3)
    supervisor = Supervisor([ServedModel("net", "1.0", archive)], options())
    await supervisor.start()
    guardian = min(below(), key=lambda process: process.pid)
    os.kill(guardian.pid, signal.SIGSTOP)
    await supervisor.restart("a test")
    assert not guardian.is_running() or guardian.status() == "zombie"
    await supervisor.stop()
    assert below() == []
