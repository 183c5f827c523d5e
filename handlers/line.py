"""The line to the service, beside TorchServe: tells how far the work is, and shows when nobody waits any more."""

import socket
import time

from protos.worker.v1 import worker_pb2

CONNECT_TIMEOUT = 0.2  # seconds
LAST_TIMEOUT = 0.2  # seconds for the last message; the others never wait
SHORTEST_INTERVAL = 0.05  # seconds between two messages, whatever is asked for
LENGTH_BYTES = 4


class Line:
    """The connection of one piece of work.

    Nothing that goes wrong with it is the work's failure: where it cannot be opened, as from another machine, there is
    no progress, and only the deadline ends the work.
    """

    def __init__(self, following: worker_pb2.Following) -> None:
        """Note where the service listens; `open` connects."""
        self._following = following
        self._interval = max(SHORTEST_INTERVAL, following.interval.ToNanoseconds() / 1e9)
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._next = 0.0
        self._tried = False
        self._hung_up = False

    def open(self) -> None:
        """Connect, where that has not been tried yet."""
        if self._tried or not self._following.socket:
            return
        self._tried = True
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(CONNECT_TIMEOUT)
            connection.connect(self._following.socket)
            connection.sendall(self._following.token.encode())
            connection.setblocking(False)
            self._socket = connection
        except (OSError, ValueError):
            connection.close()

    @property
    def hung_up(self) -> bool:
        """Whether the service has closed the connection, or died: nobody waits for this work any more."""
        if self._socket is not None:
            try:
                if not self._socket.recv(1):
                    self._hang_up()
            except BlockingIOError:
                pass
            except OSError:
                self._hang_up()
        return self._hung_up

    def due(self, maps: bool = False) -> bool:
        """Whether somebody wants to hear of a step now; with `maps`: to see the maps so far."""
        wanted = self._following.maps if maps else self._following.progress
        return wanted and self._socket is not None and time.monotonic() >= self._next

    def tell(self, progress: worker_pb2.Progress) -> None:
        """Send how far the work is, if it is due or the last step. What would have to wait for room is left out."""
        last = progress.step == progress.steps
        if self._socket is None or not (self.due() or (last and self._following.progress)):
            return
        self._next = time.monotonic() + self._interval
        self._send(last)
        if not self._unsent or last:
            message = progress.SerializeToString()
            self._unsent += len(message).to_bytes(LENGTH_BYTES, "big") + message
            self._send(last)

    def close(self) -> None:
        """End the connection, if there is one. May be called again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, last: bool) -> None:
        """Send of what is left as much as there is room for."""
        if self._socket is None:
            return
        self._socket.settimeout(LAST_TIMEOUT if last else 0)
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            self._socket.setblocking(False)
        except (BlockingIOError, TimeoutError):
            self._socket.setblocking(False)
        except OSError:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close()
        self._hung_up = True
