"""A worker and a front in processes of their own with a memory limit, and how much they really took.

`python -m tests.fuzz.bombed worker` answers WorkRequests from its input; `python -m tests.fuzz.bombed front` serves.
"""

import asyncio
import contextlib
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MEBIBYTE = 2**20
# Above what the process has when it is ready. The largest image that is allowed needs most of it.
HEADROOM = 1024 * MEBIBYTE


@dataclass(frozen=True)
class Cost:
    """What an answer took: seconds, and MiB of resident memory above what the process had before."""

    seconds: float
    mebibytes: float


class Bombed:
    """A process that is sent bombs."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: BinaryIO = process.stdin  # type: ignore[assignment]
        self._out: BinaryIO = process.stdout  # type: ignore[assignment]

    def said(self) -> str:
        """What it says without being asked: when it is ready."""
        return read_frame(self._out).decode()

    def ask(self, body: bytes) -> bytes:
        """Send a body, and wait for the answer."""
        write_frame(self._in, body)
        return read_frame(self._out)

    @contextlib.contextmanager
    def measured(self) -> Iterator[list[Cost]]:
        """Gives a list, which has the cost of the block at its end."""
        costs: list[Cost] = []
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # the peak begins anew
        before, began = self._kibibytes("VmRSS"), time.perf_counter()
        yield costs
        costs.append(Cost(time.perf_counter() - began, (self._kibibytes("VmHWM") - before) / 1024))

    def _kibibytes(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


@contextlib.contextmanager
def bombed(what: str) -> Iterator[Bombed]:
    """A process for the length of a block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.bombed", what], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Bombed(process)
    finally:
        process.kill()
        process.communicate()


def write_frame(stream: BinaryIO, body: bytes) -> None:
    """Length and bytes."""
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes:
    """The same back.

    Raises:
        EOFError: the other side has ended.
    """
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError("the process has ended")
    return stream.read(struct.unpack(">I", head)[0])


def limit_memory() -> None:
    """Let this process have no more than HEADROOM above what it has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, size + HEADROOM))


def worker() -> None:
    """Answer each body until there are no more."""
    import torch

    from handlers.loading import load_model
    from handlers.settings import Limits
    from handlers.worker import Worker
    from tests.tiny import unpack, write_tiny

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(unpack(write_tiny(Path(folder)), Path(folder)), torch.device("cpu"))
    answering = Worker(model, Limits(max_image_bytes=16 * MEBIBYTE))
    limit_memory()
    write_frame(sys.stdout.buffer, b"ready")
    with contextlib.suppress(EOFError):
        while True:
            write_frame(sys.stdout.buffer, answering.answer([read_frame(sys.stdin.buffer)])[0])


async def serve() -> None:
    """Print the address, and serve until the process is killed."""
    from tests.service.fakes import front

    async with front() as service:
        limit_memory()
        write_frame(sys.stdout.buffer, service.address.encode())
        await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker()
    else:
        asyncio.run(serve())
