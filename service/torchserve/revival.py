"""Helps where TorchServe does not help itself.

It restarts a worker that dies, but gives a model up for good when that has not helped for five minutes: a card whose
memory was full for so long, a full disk. And nothing restarts a Java that hangs.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from service.errors import ServiceError
from service.torchserve.management import ModelWorkers

log = logging.getLogger(__name__)

GIVES_UP_AFTER = 300.0  # seconds; fixed in TorchServe unless the archive says otherwise
SILENCE = 30.0  # seconds without an answer after which Java counts as hanging
_INTERVAL = 5.0  # seconds between two looks


class Workers(Protocol):
    """The part of WorkerClient that is needed here."""

    async def worker_states(self) -> dict[str, ModelWorkers]:
        """How the workers of every model are."""

    async def replace_workers(self, model: str, count: int) -> None:
        """Give a model fresh workers."""


class Reviver:
    """Looks at TorchServe now and then, and steps in where nothing has moved for too long.

    Args:
        workers: asks TorchServe.
        counts: how many workers each model should have.
        restart: restarts Java; it is told why.
        patience: seconds for which a model may have no worker.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        workers: Workers,
        counts: Mapping[str, int],
        restart: Callable[[str], Awaitable[None]],
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._counts = counts
        self._restart = restart
        self._patience = patience
        self._clock = clock
        self._last_answer = clock()
        self._last_ready = dict.fromkeys(counts, clock())

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self.look()
            except Exception:  # the net below everything else must not tear
                log.exception("cannot look after TorchServe")

    async def look(self) -> None:
        """Look once."""
        try:
            states = await self._workers.worker_states()
        except ServiceError:
            await self._consider_restart()
            return
        self._last_answer = self._clock()
        for name, count in self._counts.items():
            if name in states and states[name].any_ready:
                self._last_ready[name] = self._clock()
            elif self._clock() - self._last_ready[name] > self._patience:
                await self._replace(name, count)

    async def _consider_restart(self) -> None:
        silence = self._clock() - self._last_answer
        if silence > SILENCE:
            self._last_answer = self._clock()
            await self._restart(f"it has not answered for {silence:.0f} seconds")

    async def _replace(self, name: str, count: int) -> None:
        log.error("model %s has had no worker for %.0f seconds: starting new ones", name, self._patience)
        self._last_ready[name] = self._clock()
        try:
            await self._workers.replace_workers(name, count)
        except ServiceError as error:
            log.error("model %s got no new workers: %s", name, error.message)
