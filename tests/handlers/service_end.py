"""The service's end of the line, for tests: a real socket that notes what a worker tells."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from protos.worker.v1 import worker_pb2

TOKEN = "0123456789abcdef" * 2


class ServiceEnd:
    """Listens for one worker; hangs up once `hangs_up` says so of a step, and never talks. For a `with` block.

    Attributes:
        token: what the worker said first.
        steps: what it told since.
    """

    def __init__(self, hangs_up: Callable[[worker_pb2.Progress], bool] = lambda _: False) -> None:
        self.token = ""
        self.steps: list[worker_pb2.Progress] = []
        self._hangs_up = hangs_up
        self._folder = Path(tempfile.mkdtemp())  # short: a socket's path has at most 107 bytes
        self.path = str(self._folder / "s")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def following(self, **fields: object) -> worker_pb2.Following:
        """What a worker has to know."""
        return worker_pb2.Following(socket=self.path, token=TOKEN, **{"progress": True, **fields})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept()
        self._listener.close()
        self._thread.join(10)
        shutil.rmtree(self._folder)

    def wait(self) -> None:
        """Until the worker has hung up, or was hung up on."""
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as stream:
            self.token = stream.read(len(TOKEN)).decode()
            while length := stream.read(4):
                step = worker_pb2.Progress.FromString(stream.read(int.from_bytes(length, "big")))
                self.steps.append(step)
                if self._hangs_up(step):
                    return
