"""Has a worker carry out a command: the one way of every procedure that needs a network."""

import time
from functools import partial
from typing import Protocol

from model_store.lanes import Lane
from protos.worker.v1 import worker_pb2
from service import observation
from service.admission import Admission
from service.catalog import Catalog
from service.commands import ExplainCommand, PredictCommand
from service.converters import from_result, intervals, worker
from service.costs import Costs, kind_of, worker_seconds
from service.errors import DeadlineError, ServiceError
from service.lanes import Place, place_of
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

    def __init__(
        self,
        catalog: Catalog,
        admission: Admission,
        client: WorkerClient,
        costs: Costs,
        patience: Patience,
        longest_timeout: float,
    ) -> None:
        self._catalog = catalog
        self._admission = admission
        self._client = client
        self._costs = costs
        self._patience = patience
        self._longest_timeout = longest_timeout

    async def run(
        self, command: PredictCommand, deadline: float, watch: Watch | None = None
    ) -> worker_pb2.ImageResult:
        """As `Work.run`. When nobody waits any more, the worker is told to stop at its next step."""
        return await self._patience.wait(partial(self._carry, command, deadline), command, deadline, watch)

    async def _carry(self, command: PredictCommand, deadline: float, errand: Errand) -> worker_pb2.ImageResult:
        place, kind = place_of(command, self._catalog.get(command.model)), kind_of(command)
        whole = not (isinstance(command, ExplainCommand) and command.allow_partial)
        async with self._admission.enter(place, kind, deadline - time.monotonic(), whole=whole):
            timeout = min(deadline - time.monotonic(), self._longest_timeout)
            if timeout <= 0:
                raise DeadlineError("the deadline has passed")
            began = time.perf_counter()
            try:
                with observation.current().interval("worker") as interval:
                    result = await self._ask(command, place, timeout, errand)
            except ServiceError as error:
                late = isinstance(error, DeadlineError) or time.monotonic() >= deadline
                if late and place.lane is Lane.SLOW:  # in the others it may have waited behind a batch
                    self._costs.learn_at_least(kind, min(time.perf_counter() - began, timeout))
                raise
            if not from_result.is_partial(result):
                self._costs.learn(kind, worker_seconds(result))
            from_result.record_worker_stages(result, time.perf_counter() - began, observation.current())
            intervals.place_worker_stages(result, interval)
            return result

    async def _ask(
        self, command: PredictCommand, place: Place, timeout: float, errand: Errand
    ) -> worker_pb2.ImageResult:
        request_id = observation.current().request_id
        # Only what takes steps follows them, but which methods do only the worker knows.
        following = errand.following if isinstance(command, ExplainCommand) else None
        body = worker.to_work_request(command, request_id, timeout, following)
        errand.begun = True
        answer = await self._client.send(place.registration, body, timeout + LONGEST)
        return worker.from_work_response(answer, request_id).image
