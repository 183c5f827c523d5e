"""Keeps TorchServe running until it is told to stop."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence

from service.torchserve.client import WorkerClient
from service.torchserve.endpoint import Endpoint
from service.torchserve.errors import StartError
from service.torchserve.model import ServedModel
from service.torchserve.options import SupervisorOptions
from service.torchserve.process import TorchServeProcess
from service.torchserve.revival import GIVES_UP_AFTER, Reviver

__all__ = ["ServedModel", "Supervisor", "SupervisorOptions"]

log = logging.getLogger(__name__)

# Seconds before each restart in a row; the last one is repeated for ever.
BACKOFF = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_START_ATTEMPTS = 3  # at the service's own start; a port that was free may be taken when Java wants it


class Supervisor:
    """Starts TorchServe, restarts it whenever it ends by itself, and stops it without a trace.

    Args:
        models: what to serve.
        options: how.
        on_change: called in the event loop after each change of `running`.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        options: SupervisorOptions,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self._models = tuple(models)
        self._options = options
        self._on_change = on_change or (lambda: None)
        self._process: TorchServeProcess | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.running = False
        """Java runs and answers. Says nothing about its workers."""
        self.restarts = 0
        """How often TorchServe was started again."""

    @property
    def endpoint(self) -> Endpoint:
        """Where the current run listens, or the last one while there is none. It changes with every restart."""
        if self._process is None:
            raise RuntimeError("the supervisor has not been started")
        return self._process.endpoint

    @property
    def metrics_address(self) -> str:
        """Where the current run serves TorchServe's own Prometheus figures, "unix:/path"."""
        if self._process is None:
            raise RuntimeError("the supervisor has not been started")
        return self._process.metrics_address

    async def start(self) -> None:
        """Start TorchServe and wait until Java answers.

        Raises:
            StartError: it does not start, an archive is missing, or this is not Linux.
        """
        if sys.platform != "linux":
            raise StartError("TorchServe can be supervised on Linux only; elsewhere, point to one that runs already")
        for model in self._models:
            if not model.archive.is_file():
                raise StartError(f"the archive of {model.name} is missing: {model.archive}")
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                await self._launch()
                break
            except StartError as error:
                if attempt == _START_ATTEMPTS:
                    raise
                log.warning("%s; trying again", error)
        self._tasks = [
            asyncio.create_task(self._keep_running(), name="torchserve supervisor"),
            asyncio.create_task(self._revive(), name="torchserve reviver"),
        ]

    async def stop(self) -> None:
        """Stop TorchServe and everything below it. May be called at any time, and more than once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._process is not None:
            await self._process.stop()
        self._set_running(False)

    async def restart(self, reason: str) -> None:
        """Kill the current run, for example because it answers no more. It is started again like one that died."""
        if self._process is not None and self.running:
            log.error("restarting TorchServe: %s", reason)
            await self._process.kill()

    async def _launch(self) -> None:
        process = TorchServeProcess(self._models, self._options)
        self._process = process
        await process.start(self._options.start_timeout)
        self._set_running(True)

    async def _keep_running(self) -> None:
        failures = 0
        while True:
            assert self._process is not None  # noqa: S101 - for the type checker
            began = time.monotonic()
            if self.running:
                status = await self._process.wait()
                self._set_running(False)
                lived = time.monotonic() - began
                log.error("TorchServe ended after %.0f s, status %d", lived, status)
                if lived >= self._options.healthy_after:
                    failures = 0
            delay = BACKOFF[min(failures, len(BACKOFF) - 1)]
            failures += 1
            await asyncio.sleep(delay)
            self.restarts += 1
            log.warning("starting TorchServe again (restart %d)", self.restarts)
            try:
                await self._launch()
            except StartError as error:
                log.error("TorchServe did not start: %s", error)
            except Exception:  # no disk space, no descriptor, ...: it may pass
                log.exception("TorchServe did not start")

    async def _revive(self) -> None:
        client = WorkerClient(lambda: self.endpoint)
        counts = {model.name: model.workers for model in self._models}
        patience = self._options.limits.startup_timeout_s + GIVES_UP_AFTER
        try:
            await Reviver(client, counts, self.restart, patience=patience).run()
        finally:
            await client.close()

    def _set_running(self, running: bool) -> None:
        if running != self.running:
            self.running = running
            self._on_change()
