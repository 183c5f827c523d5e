"""Ends work for which nobody waits any more, and keeps its place with the workers taken until it has ended."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from protos.worker.v1 import worker_pb2
from service.commands import ExplainCommand, PredictCommand
from service.errors import DeadlineError
from service.metrics import Metrics
from service.progress.hub import Followed, Hub
from service.watching import Watch

# Seconds that the place of work that was given up stays taken at most. Work in steps ends within one; a method without
# steps, or a worker that is stuck, may take longer, and TorchServe's own response timeout ends that.
LONGEST = 60.0

Carry = Callable[["Errand"], Coroutine[Any, Any, worker_pb2.ImageResult]]


class Errand:
    """One command on its way to a worker and back.

    Attributes:
        begun: whether it has been handed to TorchServe, which never lets go of anything.
    """

    def __init__(self, followed: Followed) -> None:
        self.begun = False
        self._followed = followed

    @property
    def following(self) -> worker_pb2.Following | None:
        """What the worker has to know to be followed."""
        return self._followed.following


class Patience:
    """Waits for errands as long as somebody waits for them.

    Attributes:
        hub: where workers tell of their steps.
    """

    def __init__(self, hub: Hub, metrics: Metrics, longest: float = LONGEST) -> None:
        self.hub = hub
        self._metrics = metrics
        self._longest = longest
        self._given_up: set[asyncio.Task[worker_pb2.ImageResult]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen to workers for the length of a block; at its end nobody waits for the rest of what was given up."""
        async with self.hub.running():
            try:
                yield
            finally:
                for task in self._given_up:
                    task.cancel()
                await asyncio.gather(*self._given_up, return_exceptions=True)

    async def wait(
        self, carry: Carry, command: PredictCommand, deadline: float, watch: Watch | None
    ) -> worker_pb2.ImageResult:
        """What `carry` gives by `deadline`, a time of time.monotonic().

        When the time is up or this task is cancelled, the worker is told to stop, and `carry` goes on in the background
        until it has: what it holds, such as a place with the workers, stays taken.

        Raises:
            DeadlineError: the time is up.
            ServiceError: what `carry` raises.
        """
        followed = self.hub.follow(watch)
        errand = Errand(followed)
        task = asyncio.create_task(carry(errand))
        try:
            await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
            if task.done():
                await followed.rest()
                return task.result()
            raise DeadlineError("the deadline has passed")
        finally:
            followed.end()
            if not task.done():
                self._give_up(task, errand, command)

    def _give_up(self, task: "asyncio.Task[worker_pb2.ImageResult]", errand: Errand, command: PredictCommand) -> None:
        if not errand.begun:
            task.cancel()
            return
        since = time.monotonic()
        timer = asyncio.get_running_loop().call_later(self._longest, task.cancel)

        def ended(task: "asyncio.Task[worker_pb2.ImageResult]") -> None:
            timer.cancel()
            self._given_up.discard(task)
            if not task.cancelled():
                task.exception()  # looked at: nobody else is there for it
            labels = (command.model, _method(command))
            self._metrics.cancelled_work_seconds.labels(*labels).observe(time.monotonic() - since)

        self._given_up.add(task)
        task.add_done_callback(ended)


def _method(command: PredictCommand) -> str:
    return str(command.method.WhichOneof("method")) if isinstance(command, ExplainCommand) else ""
