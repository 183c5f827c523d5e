"""HTTP to one of TorchServe's two interfaces: connections, tokens, nothing about what is said."""

import asyncio
import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from yarl import URL

from service.errors import DeadlineError, InternalError, WorkerUnavailableError
from service.torchserve.endpoint import Endpoint, Keys, socket_path

log = logging.getLogger(__name__)

EndpointProvider = Callable[[], Endpoint]
_CONNECT_TIMEOUT = 2.0  # seconds; both ends are on one machine, or on one network
_LARGE_BODY = 1024 * 1024  # bytes
_OCTETS = {"Content-Type": "application/octet-stream"}  # TorchServe then passes the body on as it is


@dataclass(frozen=True)
class Reply:
    """TorchServe's answer: HTTP status and body."""

    status: int
    body: bytes

    @property
    def refuses_token(self) -> bool:
        """Whether the token was wrong. TorchServe has no status of its own for that."""
        return self.status == HTTPStatus.BAD_REQUEST and b"InvalidKeyException" in self.body


@dataclass(frozen=True)
class Interface:
    """Which of the two interfaces: how to find its address and its key."""

    address: Callable[[Endpoint], str]
    key: Callable[[Keys], str | None]


INFERENCE = Interface(lambda endpoint: endpoint.inference, lambda keys: keys.inference)
MANAGEMENT = Interface(lambda endpoint: endpoint.management, lambda keys: keys.management)


class Transport:
    """Pooled connections to one interface of whatever TorchServe the provider names at the moment."""

    def __init__(self, interface: Interface, provider: EndpointProvider) -> None:
        self._interface = interface
        self._provider = provider
        self._endpoint: Endpoint | None = None
        self._session: aiohttp.ClientSession | None = None
        self._token: str | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def request(
        self,
        method: str,
        path: tuple[str, ...],
        timeout: float,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request. A refused token is read again, once: TorchServe may have renewed it.

        Args:
            method: of HTTP.
            path: segments of the path, not yet quoted.
            timeout: seconds for everything.
            body: what to send.
            query: parameters of the URL.

        Raises:
            DeadlineError: no answer in time.
            WorkerUnavailableError: TorchServe cannot be reached, or broke off.
            InternalError: it accepts no token of ours.
        """
        try:
            async with asyncio.timeout(timeout):
                reply = await self._attempt(method, path, body, query)
                if reply.refuses_token:
                    self._token = self._read_token()
                    reply = await self._attempt(method, path, body, query)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):  # no connection, long before the deadline
                raise WorkerUnavailableError("the model's workers cannot be reached") from error
            raise DeadlineError("the deadline passed before the model answered") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.debug("TorchServe cannot be reached: %s", type(error).__name__)
            raise WorkerUnavailableError("the model's workers cannot be reached") from error
        if reply.refuses_token:
            log.error("TorchServe refuses the token in its own key file")
            raise InternalError("the model's workers refuse the service")
        return reply

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
        await asyncio.gather(*self._closing)

    async def _attempt(
        self, method: str, path: tuple[str, ...], body: bytes | None, query: Mapping[str, str] | None
    ) -> Reply:
        session = self._current_session()
        headers = {} if body is None else dict(_OCTETS)
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        async with session.request(
            method, self._url(path), params=query, data=_data(body), headers=headers
        ) as response:
            return Reply(response.status, await response.read())

    def _current_session(self) -> aiohttp.ClientSession:
        """The session for the endpoint of the moment: after a restart there are new sockets and new tokens."""
        endpoint = self._provider()
        if self._session is None or endpoint != self._endpoint:
            self._retire()
            self._endpoint = endpoint
            self._token = self._read_token()
            self._session = self._new_session()
        return self._session

    def _retire(self) -> None:
        self._endpoint = None
        if self._session is not None:
            closing = asyncio.create_task(self._session.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._session = None

    def _new_session(self) -> aiohttp.ClientSession:
        path = socket_path(self._address())
        # No limit of its own: admission is the one place where requests wait.
        connector = aiohttp.UnixConnector(path, limit=0) if path else aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_TIMEOUT)
        return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False, trust_env=False)

    def _read_token(self) -> str | None:
        assert self._endpoint is not None  # noqa: S101 - for the type checker
        return self._interface.key(self._endpoint.read_keys())

    def _address(self) -> str:
        assert self._endpoint is not None  # noqa: S101 - for the type checker
        return self._interface.address(self._endpoint)

    def _url(self, path: tuple[str, ...]) -> URL:
        address = self._address()
        base = URL("http://localhost") if socket_path(address) else URL(address)
        return base.joinpath(*path)


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body goes out in pieces, so that other requests get their turn meanwhile."""
    return io.BytesIO(body) if body and len(body) > _LARGE_BODY else body
