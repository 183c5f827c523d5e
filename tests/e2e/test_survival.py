"""Whatever is killed, no process is left behind, and what can come back does."""

import asyncio
import json
import logging
import shutil
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from service.errors import ServiceError
from service.torchserve.client import WorkerClient
from service.torchserve.endpoint import Endpoint
from tests.service.torchserve.echo import build_archive, wait_for_workers

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).with_name("survivor.py")
# pytest -o log_cli=true --log-cli-level=INFO shows the times
log = logging.getLogger(__name__)


KINDS: dict[str, Callable[[psutil.Process], bool]] = {
    "guardian": lambda process: "guardian.py" in " ".join(process.cmdline()),
    "java": lambda process: process.name() == "java",
    "worker": lambda process: "model_service_worker.py" in " ".join(process.cmdline()),
}


def _is(process: psutil.Process, kind: str) -> bool:
    """Whether a process is of a kind; one that has just ended is of none."""
    try:
        return KINDS[kind](process)
    except psutil.NoSuchProcess:
        return False


class Survivor:
    """The program under test, and what can be seen of it from outside."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        self.process = process
        self.mark = mark
        self.endpoint = Endpoint("unix:/nowhere", "unix:/nowhere")
        self.client = WorkerClient(lambda: self.endpoint)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, archive: Path) -> "Survivor":
        """Start the program; TorchServe comes later."""
        mark = uuid.uuid4().hex
        process = await asyncio.create_subprocess_exec(
            sys.executable, PROGRAM, archive, mark, stdout=asyncio.subprocess.PIPE
        )
        return cls(process, mark)

    async def _listen(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            inference, management, key_file = json.loads(line)
            self.endpoint = Endpoint(inference, management, key_file=Path(key_file))

    async def ready(self) -> None:
        """Wait until the worker is ready."""
        await wait_for_workers(self.client, "echo")

    async def not_ready(self) -> None:
        """Wait until TorchServe does not answer, or says that the worker is not ready."""
        async with asyncio.timeout(10):
            while True:
                try:
                    if not (await self.client.worker_states())["echo"].any_ready:
                        return
                except ServiceError:
                    return
                await asyncio.sleep(0.01)

    def marked(self) -> list[psutil.Process]:
        """Every living process with the mark: the guardian, Java, the workers, and whatever they started."""
        return [process for process in psutil.process_iter() if self._is_marked(process)]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("WHYLIGHT_TEST_MARK") == self.mark and process.status() != "zombie"
        except psutil.Error:
            return False

    def find(self, kind: str) -> psutil.Process | None:
        """The living guardian, java or worker; None when there is none."""
        return next((process for process in self.marked() if _is(process, kind)), None)

    def kill(self, kind: str) -> None:
        """Send kill -9 to the living guardian, java or worker."""
        victim = self.find(kind)
        assert victim
        victim.kill()

    async def all_gone(self, within: float) -> float:
        """Wait until no marked process lives, at most `within` seconds; returns the seconds that it took."""
        began = time.monotonic()
        while self.marked():
            assert time.monotonic() - began < within, [process.cmdline() for process in self.marked()]
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def close(self) -> None:
        """Kill everything, and remove the run directory, which stays when the guardian is killed with the service."""
        await self.client.close()
        if self.process.returncode is None:
            self.process.kill()
        for process in self.marked():
            process.kill()
        await self.process.wait()
        await self._listening
        if self.endpoint.key_file:
            shutil.rmtree(self.endpoint.key_file.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The echo model."""
    return build_archive(tmp_path_factory.mktemp("survival"))


@pytest.fixture
async def survivor(archive: Path) -> AsyncIterator[Survivor]:
    """The program, just started."""
    survivor = await Survivor.start(archive)
    yield survivor
    await survivor.close()


async def test_killed_parts_come_back_and_a_killed_service_leaves_nothing(survivor: Survivor) -> None:
    """After kill -9 on the worker, Java, the guardian: not ready, then ready again. On the service: all gone."""
    await survivor.ready()
    for name in ("worker", "java", "guardian"):
        before = set(survivor.marked())
        survivor.kill(name)
        began = time.monotonic()
        await survivor.not_ready()
        noticed = time.monotonic() - began
        await survivor.ready()
        log.info("%s: noticed after %.2f s, ready after %.2f s", name, noticed, time.monotonic() - began)
        assert await survivor.client.send("echo", b"alive", 10) == b"alive"
        left = before & set(survivor.marked())
        assert len(left) == (2 if name == "worker" else 0)
    run_directory = Path(str(survivor.endpoint.key_file)).parent
    assert run_directory.exists()
    survivor.process.kill()
    log.info("service: all gone after %.2f s", await survivor.all_gone(within=3))
    assert not run_directory.exists()


@pytest.mark.parametrize("stage", KINDS)
async def test_a_service_killed_while_it_starts_leaves_nothing(survivor: Survivor, stage: str) -> None:
    """The kill comes as soon as the guardian, Java, or the worker that TorchServe does not know yet, has appeared."""
    async with asyncio.timeout(30):
        while not survivor.find(stage):
            await asyncio.sleep(0.005)
    survivor.process.kill()
    log.info("%s: all gone after %.2f s", stage, await survivor.all_gone(within=3))


@pytest.mark.parametrize(("number", "wait"), [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGINT, False)])
async def test_an_orderly_stop_leaves_nothing(survivor: Survivor, number: signal.Signals, wait: bool) -> None:
    """SIGTERM and SIGINT stop everything before the service itself ends, also while it starts."""
    if wait:
        await survivor.ready()
    else:
        async with asyncio.timeout(10):
            while not survivor.marked():
                await asyncio.sleep(0.02)
    began = time.monotonic()
    survivor.process.send_signal(number)
    assert await survivor.process.wait() == 0
    log.info("%s: the end after %.2f s", number.name, time.monotonic() - began)
    assert survivor.marked() == []


async def test_everything_but_the_worker_is_killed_together(survivor: Survivor) -> None:
    """Even with nobody left to clean up, a worker ends by itself when Java hangs up."""
    await survivor.ready()
    java = survivor.find("java")
    assert java
    survivor.kill("guardian")
    survivor.process.kill()
    java.kill()
    log.info("all gone after %.2f s", await survivor.all_gone(within=10))
