"""Has a worker carry out a command: the one way of every procedure that needs a network."""

import time
from functools import partial
from typing import Protocol

from protos.worker.v1 import worker_pb2
from service import observation
from service.admission import Admission
from service.commands import ExplainCommand, PredictCommand
from service.converters import from_result, worker
from service.errors import DeadlineError
from service.progress.patience import LONGEST, Errand, Patience
from service.torchserve.client import WorkerClient
from service.watching import Watch


class Work(Protocol):
    """Whatever carries out commands."""

    async def run(
        self, command: PredictCommand, deadline: float, watch: Watch | None = None
    ) -> worker_pb2.ImageResult:
        """Carry out a command by `deadline`, a time of time.monotonic(); `watch` is told of its steps.

        Raises:
            ServiceError: it cannot be done, or not in time.
        """
        ...


class Workers:
    """Carries out commands in TorchServe's workers, once admission lets them in."""

    def __init__(self, admission: Admission, client: WorkerClient, patience: Patience) -> None:
        self._admission = admission
        self._client = client
        self._patience = patience

    async def run(
        self, command: PredictCommand, deadline: float, watch: Watch | None = None
    ) -> worker_pb2.ImageResult:
        """As `Work.run`. When nobody waits any more, the worker is told to stop at its next step."""
        return await self._patience.wait(partial(self._carry, command, deadline), command, deadline, watch)

    async def _carry(self, command: PredictCommand, deadline: float, errand: Errand) -> worker_pb2.ImageResult:
        seen = observation.current()
        async with self._admission.enter(command.model, deadline - time.monotonic()):
            timeout = deadline - time.monotonic()
            if timeout <= 0:
                raise DeadlineError("the deadline has passed")
            began = time.perf_counter()
            # Only what takes steps follows them, but which methods do only the worker knows.
            following = errand.following if isinstance(command, ExplainCommand) else None
            body = worker.to_work_request(command, seen.request_id, timeout, following)
            errand.begun = True
            answer = await self._client.send(command.model, body, timeout + LONGEST)
            result = worker.from_work_response(answer, seen.request_id).image
            from_result.record_worker_stages(result, time.perf_counter() - began, seen)
            return result
