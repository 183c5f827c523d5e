"""A service that may be killed and started again on the same port."""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import psutil

from benchmarks.reliability.processes import alive, below
from model_store.manifest import DEFAULT_MANIFEST
from service.launch import Launched, launched


class Serving:
    """The service, started anew as often as it is needed.

    Args:
        settings: of the service, by name.
    """

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._settings = dict(settings)
        self._run = contextlib.ExitStack()
        self._logs: list[str] = []
        self._service: Launched | None = None

    @classmethod
    def attached(cls, service: Launched) -> "Serving":
        """One that runs already, and that somebody else stops."""
        made = cls({})
        made._service = service
        return made

    @property
    def service(self) -> Launched:
        """The present run."""
        assert self._service is not None  # noqa: S101 - for the type checker
        return self._service

    @property
    def address(self) -> str:
        """host:port, the same for every run."""
        return self.service.address

    @property
    def log(self) -> str:
        """What all runs have logged so far."""
        return "".join([*self._logs, self.service.log.read_text(errors="replace")])

    async def start(self) -> None:
        """Start, and wait until every model is ready."""
        self._service = await asyncio.to_thread(self._run.enter_context, launched(self._settings))
        self._settings["port"] = self.address.rpartition(":")[2]

    async def kill(self) -> float:
        """kill -9; gives the seconds after which nothing of it was left."""
        left = [psutil.Process(self.service.process.pid), *below(self.service)]
        self.service.process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        while any(alive(process) for process in left):
            await asyncio.sleep(0.02)
        gone = time.monotonic() - began
        self._logs.append(self.service.log.read_text(errors="replace"))
        await self.stop()
        return gone

    async def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        await asyncio.to_thread(self._run.close)


@contextlib.asynccontextmanager
async def serving(settings: Mapping[str, object] | None = None) -> AsyncIterator[Serving]:
    """A running service for the length of a block."""
    made = Serving(settings or {})
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextlib.contextmanager
def impatient_manifest(seconds: int) -> Iterator[Path]:
    """The default models, whose workers TorchServe kills when they take more than `seconds` for a batch."""
    with tempfile.TemporaryDirectory(prefix="whylight-manifest-") as folder:
        text = DEFAULT_MANIFEST.read_text()
        for relative in ("digits/", "weights/"):
            text = text.replace(relative, f"{DEFAULT_MANIFEST.parent}/{relative}")
        manifest = Path(folder, "models.toml")
        manifest.write_text(text.replace("response_timeout_s = 60", f"response_timeout_s = {seconds}"))
        yield manifest
