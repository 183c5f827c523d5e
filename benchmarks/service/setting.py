"""Everything that is compared, running side by side: one TorchServe, the service in front of it, a bare server."""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.service.ways import Ways, connected
from model_store.archive import build_archive
from model_store.manifest import ModelEntry
from service.launch import launched
from service.torchserve.client import WorkerClient
from service.torchserve.java import find_java
from service.torchserve.supervisor import ServedModel, Supervisor, SupervisorOptions
from tests.service.torchserve.echo import wait_for_workers

START_TIMEOUT = 300.0  # seconds
CLIENT, FRONT, JAVA, WORKERS, BARE = "client", "service", "Java", "workers", "bare server"


@dataclass(frozen=True)
class Setting:
    """What runs.

    Attributes:
        ways: to ask.
        processes: by what they are.
        batch_size: of every model.
    """

    ways: Ways
    processes: Mapping[str, tuple[psutil.Process, ...]]
    batch_size: int

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of the processes so far, user and system."""
        return {name: sum(_cpu_seconds(each) for each in found) for name, found in self.processes.items()}


@contextlib.asynccontextmanager
async def running(choose: Callable[[Path], Sequence[tuple[ModelEntry, Path]]]) -> AsyncIterator[Setting]:
    """Start everything for the length of a block. The service and whoever asks TorchServe alone share its workers.

    Args:
        choose: the models to serve, as `cases.entries` finds them, given a folder to write into.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whylight-benchmark-")))
        found = choose(folder)
        batch_size = found[0][0].serving.batch_size
        served = [
            ServedModel(
                name=entry.name,
                version=entry.version,
                archive=build_archive(entry, parent, folder / "archives"),
                workers=entry.serving.workers,
                batch_size=entry.serving.batch_size,
                max_batch_delay_ms=entry.serving.max_batch_delay_ms,
                response_timeout_s=entry.serving.response_timeout_s,
            )
            for entry, parent in found
        ]
        supervisor = Supervisor(served, SupervisorOptions(java=find_java(None)))
        await supervisor.start()
        stack.push_async_callback(supervisor.stop)
        await _ready(supervisor, [model.name for model in served])
        below = psutil.Process().children(recursive=True)
        service = await asyncio.to_thread(stack.enter_context, launched(_settings(supervisor)))
        server = _bare(folder / "archives", folder / "bare")
        address, process = await asyncio.to_thread(stack.enter_context, server)
        ways = await stack.enter_async_context(connected(service.address, supervisor.endpoint, address))
        yield Setting(ways, _processes(below, service.process.pid, process.pid), batch_size)


async def _ready(supervisor: Supervisor, names: list[str]) -> None:
    client = WorkerClient(lambda: supervisor.endpoint)
    try:
        await wait_for_workers(client, *names, timeout=START_TIMEOUT)
    finally:
        await client.close()


def _settings(supervisor: Supervisor) -> dict[str, object]:
    """Of a service that works with this TorchServe."""
    return {
        "worker_inference_address": supervisor.endpoint.inference,
        "worker_management_address": supervisor.endpoint.management,
        "worker_key_file": supervisor.endpoint.key_file,
    }


@contextlib.contextmanager
def _bare(archives: Path, ready: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The bare server with its address."""
    command = [sys.executable, "-m", "benchmarks.service.bare", "--archives", str(archives), "--ready", str(ready)]
    # A session of its own, as TorchServe has: Linux shares busy processors by session.
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the bare server did not start")
            time.sleep(0.05)
        yield ready.read_text(), process
    finally:
        process.terminate()
        process.wait()


def _processes(below: list[psutil.Process], service: int, bare: int) -> dict[str, tuple[psutil.Process, ...]]:
    workers = tuple(each for each in below if any("model_service_worker" in part for part in each.cmdline()))
    return {
        CLIENT: (psutil.Process(),),
        FRONT: (psutil.Process(service),),
        JAVA: tuple(each for each in below if each.name() == "java"),
        WORKERS: workers,
        BARE: (psutil.Process(bare),),
    }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
