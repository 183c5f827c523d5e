"""The worker client against a pretended TorchServe on unix sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from service.errors import (
    DeadlineError,
    InternalError,
    NoRoomError,
    OutOfMemoryError,
    ServiceError,
    WorkerUnavailableError,
)
from service.torchserve.client import ModelWorkers, WorkerClient
from service.torchserve.endpoint import Endpoint, Keys

KEY = "secret"
Answer = Callable[[web.Request], Awaitable[web.Response]]


def failure(status: int, kind: str, message: str) -> web.Response:
    """An error as TorchServe forms it."""
    return web.json_response({"code": status, "type": kind, "message": message}, status=status)


class Pretender:
    """Both interfaces on one socket and one port. `answer` is what predictions get; `connections` are open now."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.key = KEY
        self.requests: list[web.Request] = []
        self.answer: Answer = self.echo
        self.pages: list[list[str]] = [["m"]]
        self.url = ""
        self._runner: web.AppRunner | None = None

    @property
    def endpoint(self) -> Endpoint:
        """With the key of the beginning."""
        return Endpoint(f"unix:{self.socket}", f"unix:{self.socket}", keys=Keys(KEY, KEY))

    @property
    def connections(self) -> int:
        """Number of open connections."""
        assert self._runner
        assert self._runner.server
        return len(self._runner.server.connections)

    async def start(self) -> None:
        """Listen."""
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, handler_cancellation=True)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[1][1]}"

    async def stop(self) -> None:
        """Hang up."""
        assert self._runner
        await self._runner.cleanup()

    async def echo(self, request: web.Request) -> web.Response:
        """Answer with the body."""
        return web.Response(body=await request.read())

    async def _handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return failure(400, "InvalidKeyException", "Token Authorization failed.")
        if request.path == "/models":
            page = int(request.query.get("next_page_token", 0))
            more = {"nextPageToken": str(page + 1)} if page + 1 < len(self.pages) else {}
            return web.json_response({"models": [{"modelName": name} for name in self.pages[page]], **more})
        if request.path.startswith("/models/"):
            return web.json_response([{"modelVersion": "1.0", "minWorkers": 1, "workers": [{"status": "READY"}]}])
        return await self.answer(request)


@pytest.fixture
async def pretender(tmp_path: Path) -> AsyncIterator[Pretender]:
    """A pretended TorchServe that listens."""
    pretender = Pretender(tmp_path / "s")
    await pretender.start()
    yield pretender
    await pretender.stop()


@pytest.fixture
async def client(pretender: Pretender) -> AsyncIterator[WorkerClient]:
    """A client of it."""
    client = WorkerClient(lambda: pretender.endpoint)
    yield client
    await client.close()


async def test_bytes_arrive_as_they_are(client: WorkerClient, pretender: Pretender) -> None:
    """Bytes in, bytes out, on one connection, to the model's address."""
    body = bytes(range(256)) * 1000
    for _ in range(3):
        assert await client.send("m", body, 5) == body
    assert {request.path for request in pretender.requests} == {"/predictions/m"}
    assert pretender.connections == 1


@pytest.mark.parametrize(
    ("status", "kind", "message", "error"),
    [
        (404, "ModelNotFoundException", "Model not found: m", WorkerUnavailableError),
        (500, "InternalServerException", "Worker died.", WorkerUnavailableError),
        (413, "InternalServerException", "Worker died.", WorkerUnavailableError),
        (503, "ServiceUnavailableException", 'Model "m" has no worker to serve', NoRoomError),
        (503, "InternalServerException", "Prediction failed", InternalError),
        (507, "InternalServerException", "Out of resources", OutOfMemoryError),
        (400, "BadRequestException", "bad", InternalError),
        (500, "InternalServerException", "other", InternalError),
    ],
)
async def test_failures_become_our_errors(
    client: WorkerClient, pretender: Pretender, status: int, kind: str, message: str, error: type[ServiceError]
) -> None:
    """Each of TorchServe's failures has its error, without TorchServe's words."""

    async def fail(request: web.Request) -> web.Response:
        return failure(status, kind, message)

    pretender.answer = fail
    with pytest.raises(ServiceError) as caught:
        await client.send("m", b"x", 5)
    assert type(caught.value) is error
    assert message not in caught.value.message


async def test_a_failure_that_is_no_json(client: WorkerClient, pretender: Pretender) -> None:
    """An answer from something else on the way is a fault of ours."""

    async def fail(request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>")

    pretender.answer = fail
    with pytest.raises(InternalError):
        await client.send("m", b"x", 5)


async def test_time_runs_out(client: WorkerClient, pretender: Pretender) -> None:
    """No answer in time is a deadline error, and the connection is not kept."""
    pretender.answer = lambda request: asyncio.sleep(60, web.Response())
    with pytest.raises(DeadlineError):
        await client.send("m", b"x", 0.1)
    await asyncio.sleep(0.1)
    assert pretender.connections == 0


async def test_cancelling_frees_the_connection(client: WorkerClient, pretender: Pretender) -> None:
    """Nothing is left open for a caller who went away, and the next one is served."""
    pretender.answer = lambda request: asyncio.sleep(60, web.Response())
    calls = [asyncio.create_task(client.send("m", b"x", 60)) for _ in range(5)]
    await asyncio.sleep(0.1)
    assert pretender.connections == 5
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert pretender.connections == 0
    pretender.answer = pretender.echo
    assert await client.send("m", b"x", 5) == b"x"


async def test_nobody_there(tmp_path: Path) -> None:
    """A missing socket, key file or server is unavailability."""
    nowhere = tmp_path / "nowhere"
    for endpoint in (
        Endpoint(f"unix:{nowhere}", f"unix:{nowhere}"),
        Endpoint("http://127.0.0.1:9", "http://127.0.0.1:9"),
        Endpoint(f"unix:{nowhere}", f"unix:{nowhere}", key_file=nowhere),
    ):
        client = WorkerClient(lambda endpoint=endpoint: endpoint)  # type: ignore[misc]
        with pytest.raises(WorkerUnavailableError):
            await client.send("m", b"x", 5)
        with pytest.raises(WorkerUnavailableError):
            await client.worker_states()
        await client.close()


async def test_hanging_up_is_unavailability(client: WorkerClient, pretender: Pretender) -> None:
    """TorchServe may die in the middle of a request."""

    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    pretender.answer = hang_up
    with pytest.raises(WorkerUnavailableError):
        await client.send("m", b"x", 5)


async def test_a_renewed_token_is_found(pretender: Pretender, tmp_path: Path) -> None:
    """When TorchServe refuses the token, its file is read again; when that does not help, it is our fault."""
    file = tmp_path / "key_file.json"

    def write(key: str) -> None:
        file.write_text(json.dumps({"inference": {"key": key}, "management": {"key": key}}))

    write(KEY)
    client = WorkerClient(lambda: Endpoint(f"unix:{pretender.socket}", f"unix:{pretender.socket}", key_file=file))
    assert await client.send("m", b"x", 5) == b"x"
    pretender.key = "renewed"
    with pytest.raises(InternalError):
        await client.send("m", b"x", 5)
    write("renewed")
    assert await client.send("m", b"x", 5) == b"x"
    await client.close()


async def test_a_new_endpoint_is_used(pretender: Pretender, tmp_path: Path) -> None:
    """After a restart there are other sockets; the connections to the old ones are closed."""
    second = Pretender(tmp_path / "t")
    await second.start()
    current = pretender
    client = WorkerClient(lambda: current.endpoint)
    assert await client.send("m", b"1", 5) == b"1"
    current = second
    assert await client.send("m", b"2", 5) == b"2"
    assert len(second.requests) == 1
    await asyncio.sleep(0.05)
    assert pretender.connections == 0
    await client.close()
    await second.stop()


async def test_a_torchserve_that_runs_elsewhere(pretender: Pretender) -> None:
    """Addresses over TCP work like sockets, with fixed keys."""
    client = WorkerClient(lambda: Endpoint(pretender.url, pretender.url, keys=Keys(KEY, KEY)))
    assert await client.send("m", b"x", 5) == b"x"
    assert (await client.worker_states())["m"].all_ready
    await client.close()


async def test_states(client: WorkerClient) -> None:
    """The state of every model, by name."""
    assert await client.worker_states() == {"m": ModelWorkers("m", ("1.0",), 1, 1)}


async def test_more_registrations_than_one_page(client: WorkerClient, pretender: Pretender) -> None:
    """Three lanes each for forty models: TorchServe names a hundred at once."""
    pretender.pages = [["a", "b"], ["c"], ["d"]]
    assert sorted(await client.worker_states()) == ["a", "b", "c", "d"]


async def test_workers_are_replaced(client: WorkerClient, pretender: Pretender) -> None:
    """First none, then as many as asked for."""
    await client.replace_workers("m", 2)
    assert [(request.method, request.path_qs) for request in pretender.requests] == [
        ("PUT", "/models/m?min_worker=0&max_worker=0&synchronous=true"),
        ("PUT", "/models/m?min_worker=2&max_worker=2&synchronous=false"),
    ]
