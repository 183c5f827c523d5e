"""Has a worker carry out a command: the one way of every procedure that needs a network."""

import time
from typing import Protocol

from model_store.lanes import Lane
from protos.worker.v1 import worker_pb2
from service import observation
from service.admission import Admission
from service.catalog import Catalog
from service.commands import PredictCommand
from service.converters import from_result, worker
from service.costs import Costs, kind_of, worker_seconds
from service.errors import DeadlineError
from service.lanes import Place, place_of
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
        self, catalog: Catalog, admission: Admission, client: WorkerClient, costs: Costs, longest_timeout: float
    ) -> None:
        self._catalog = catalog
        self._admission = admission
        self._client = client
        self._costs = costs
        self._longest_timeout = longest_timeout

    async def run(
        self, command: PredictCommand, deadline: float, watch: Watch | None = None
    ) -> worker_pb2.ImageResult:
        """As `Work.run`."""
        place, kind = place_of(command, self._catalog.get(command.model)), kind_of(command)
        async with self._admission.enter(place, kind, deadline - time.monotonic()):
            timeout = min(deadline - time.monotonic(), self._longest_timeout)
            if timeout <= 0:
                raise DeadlineError("the deadline has passed")
            began = time.perf_counter()
            try:
                result = await self._ask(command, place, timeout)
            except DeadlineError:
                if place.lane is Lane.SLOW:  # in the others it may have waited behind a batch
                    self._costs.learn_at_least(kind, time.perf_counter() - began)
                raise
            self._costs.learn(kind, worker_seconds(result))
            from_result.record_worker_stages(result, time.perf_counter() - began, observation.current())
            return result

    async def _ask(self, command: PredictCommand, place: Place, timeout: float) -> worker_pb2.ImageResult:
        request_id = observation.current().request_id
        body = worker.to_work_request(command, request_id, timeout)
        answer = await self._client.send(place.registration, body, timeout)
        return worker.from_work_response(answer, request_id).image
