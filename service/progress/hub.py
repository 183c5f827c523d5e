"""Where workers tell of their steps, and learn that nobody waits for their work any more."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator

from google.protobuf.message import DecodeError

from protos.worker.v1 import worker_pb2
from service.torchserve import rundir
from service.watching import Particular, Watch

TOKEN_BYTES = 32
LENGTH_BYTES = 4
LARGEST = 64 * 2**20  # bytes of one message
HELLO_TIMEOUT = 5.0  # seconds for a worker that has connected to say which work it is about
REST_TIMEOUT = 0.5  # seconds
BACKLOG = 1024

logger = logging.getLogger(__name__)


class Followed:
    """One piece of work that may be followed.

    Attributes:
        token: names it to the worker, unguessable.
    """

    def __init__(self, hub: "Hub", watch: Watch | None) -> None:
        self.token = uuid.uuid4().hex
        self._hub = hub
        self._watch = watch
        self._connection: asyncio.StreamWriter | None = None
        self._told = asyncio.Event()

    @property
    def following(self) -> worker_pb2.Following | None:
        """What the worker has to know; None where nothing listens."""
        if self._hub.socket is None:
            return None
        message = worker_pb2.Following(socket=self._hub.socket, token=self.token, progress=self._watch is not None)
        # Looked at only where somebody watches: to ask whether something fits a protocol takes 20 microseconds.
        if self._watch is not None and isinstance(self._watch, Particular):
            message.maps = self._watch.maps
            message.interval.FromNanoseconds(int(self._watch.interval * 1e9))
        return message

    async def rest(self) -> None:
        """Once the worker has answered, wait for what it told before and nobody has read yet: it hangs up first."""
        if self._connection is not None and self._watch is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REST_TIMEOUT):
                    await self._told.wait()

    def end(self) -> None:
        """Follow it no more: the worker, if it is at it still, gives up at its next step. May be called again."""
        self._hub.forget(self)
        if self._connection is not None:
            self._connection.close()

    def connected(self, connection: asyncio.StreamWriter) -> None:
        """Take note of the worker's connection."""
        self._connection = connection

    def hung_up(self) -> None:
        """Take note that the worker tells no more."""
        self._told.set()

    def heard(self, progress: worker_pb2.Progress) -> None:
        """Pass on what the worker tells."""
        if self._watch is not None:
            self._watch.progress(progress)


class Hub:
    """Listens on a unix socket in a private directory while it is `running`; otherwise nothing is followed.

    Attributes:
        socket: path of the socket; None while nothing listens.
    """

    def __init__(self) -> None:
        self.socket: str | None = None
        self._followed: dict[str, Followed] = {}

    def follow(self, watch: Watch | None) -> Followed:
        """Follow a piece of work from now on, until its `end`; `watch` is told of its steps."""
        followed = Followed(self, watch)
        self._followed[followed.token] = followed
        return followed

    def forget(self, followed: Followed) -> None:
        """Know a piece of work no more: who connects for it is turned away."""
        self._followed.pop(followed.token, None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen for the length of a block. Where that cannot be done, go on without: only deadlines end work then."""
        try:
            directory = rundir.create()
        except OSError as error:
            logger.warning("no progress and no cancellation of work: %s", error.strerror)
            yield
            return
        try:
            path = str(directory.path / "progress.sock")
            server = await asyncio.start_unix_server(self._listen, path, backlog=BACKLOG)
            self.socket = path
            try:
                yield
            finally:
                self.socket = None
                server.close()
                for followed in list(self._followed.values()):
                    followed.end()
        finally:
            directory.remove()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a worker."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                token = await reader.readexactly(TOKEN_BYTES)
            followed = self._followed.get(token.decode("ascii", "replace"))
            if followed is not None:
                followed.connected(writer)
                try:
                    await _pass_on(reader, followed)
                finally:
                    followed.hung_up()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # the worker has done its work, or died; or nobody of ours
        except asyncio.CancelledError:
            pass  # the service ends; asyncio would log a traceback of it
        except (DecodeError, ValueError):
            logger.error("a worker told what nobody understands")
        finally:
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, followed: Followed) -> None:
    while True:
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        if length > LARGEST:
            raise ValueError("too long a message")
        followed.heard(worker_pb2.Progress.FromString(await reader.readexactly(length)))
