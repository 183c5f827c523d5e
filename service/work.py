"""Has a worker carry out a command: the one way of every procedure that needs a network."""

import time
from typing import Protocol

from protos.worker.v1 import worker_pb2
from service import observation
from service.admission import Admission
from service.commands import PredictCommand
from service.converters import from_result, intervals, worker
from service.errors import DeadlineError
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

    def __init__(self, admission: Admission, client: WorkerClient) -> None:
        self._admission = admission
        self._client = client

    async def run(
        self, command: PredictCommand, deadline: float, watch: Watch | None = None
    ) -> worker_pb2.ImageResult:
        """As `Work.run`."""
        seen = observation.current()
        async with self._admission.enter(command.model, deadline - time.monotonic()):
            timeout = deadline - time.monotonic()
            if timeout <= 0:
                raise DeadlineError("the deadline has passed")
            began = time.perf_counter()
            with seen.interval("worker") as interval:
                body = worker.to_work_request(command, seen.request_id, timeout)
                answer = await self._client.send(command.model, body, timeout)
                result = worker.from_work_response(answer, seen.request_id).image
            from_result.record_worker_stages(result, time.perf_counter() - began, seen)
            intervals.place_worker_stages(result, interval)
            return result
