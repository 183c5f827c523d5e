"""Does the work of a job as Explain would have done it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

import grpc

from protos.explain.v1 import explanation_service_pb2 as api
from service import observation
from service.catalog import Catalog, DeployedModel
from service.commands import ExplainCommand
from service.converters import to_command
from service.errors import STATUS_CODES, InternalError, ServiceError, WorkerUnavailableError
from service.explaining import Explaining
from service.identity.caller import Caller
from service.identity.gate import Gate
from service.identity.permissions import CREATE_JOB
from service.identity.precision import check_request
from service.jobs.job import Job
from service.lanes import place_of
from service.observation import Observation, observing
from service.tracing import NoTracing, Tracing
from service.watching import Watch

RPC = "ExplanationJob"  # in the log

logger = logging.getLogger(__name__)


class NotBegunError(Exception):
    """The model has no worker at this moment: nothing was tried.

    Attributes:
        retry_after: seconds after which to look again.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("no worker")
        self.retry_after = retry_after


class Execution:
    """Explains an image for a client who is not connected, within what the client may do now."""

    def __init__(
        self,
        catalog: Catalog,
        explaining: Explaining,
        gate: Gate,
        max_image_bytes: int,
        tracing: Tracing | None = None,
    ) -> None:
        self._catalog = catalog
        self._explaining = explaining
        self._gate = gate
        self._max_image_bytes = max_image_bytes
        self._tracing = tracing or NoTracing()

    async def run(self, job: Job, request: bytes, watch: Watch) -> api.ExplainResponse:
        """Compute the answer, at full precision; whoever reads it gets it at theirs.

        Raises:
            ServiceError: what Explain would have answered.
            NotBegunError: the model's workers are not there now.
        """
        caller = self._gate.recall(job.client, CREATE_JOB)
        with observing(Observation(job.name, RPC, caller=caller)) as seen, self._traced(job, seen):
            return await self._explain(api.ExplainRequest.FromString(request), caller, job.timeout, watch)

    @contextlib.contextmanager
    def _traced(self, job: Job, seen: Observation) -> Iterator[None]:
        """Trace and log one try, which is a trace of its own: the call that made the job has long been answered."""
        outcome = grpc.StatusCode.OK.name
        try:
            yield
        except BaseException as error:
            outcome = _outcome(error)
            raise
        finally:
            trace = self._tracing.finished(seen, outcome) if outcome else ""
            logger.info(
                "%s %s client=%s model=%s method=%s attempt=%d seconds=%.4f%s",
                job.name, RPC, job.client, seen.model, seen.method, job.attempts, seen.elapsed,
                f" trace={trace}" if trace else "",
            )  # fmt: skip

    async def _explain(
        self, request: api.ExplainRequest, caller: Caller, timeout: float, watch: Watch
    ) -> api.ExplainResponse:
        check_request(request, caller.precision)
        model = self._ready_model(request)
        observation.current().model = model.name
        command = to_command.to_explain_command(request, model, self._max_image_bytes)
        self._check_workers(command, model)
        observation.current().method = str(command.method.WhichOneof("method"))
        # The quota was charged when the job was made.
        return await self._explaining.explain_charged(command, model, time.monotonic() + timeout, watch)

    def _ready_model(self, request: api.ExplainRequest) -> DeployedModel:
        with _not_begun():
            return self._catalog.get_ready(request.model, request.model_version)

    def _check_workers(self, command: ExplainCommand, model: DeployedModel) -> None:
        """Not only some workers of the model have to be there: those of the lane that the command takes."""
        with _not_begun():
            place_of(command, model)


def _outcome(error: BaseException) -> str:
    """The gRPC status that a call would have ended with; "" where nothing was tried, and there is nothing to trace."""
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED.name
    if isinstance(error, NotBegunError):
        return ""
    return STATUS_CODES[type(error) if isinstance(error, ServiceError) else InternalError].name


@contextlib.contextmanager
def _not_begun() -> Iterator[None]:
    """Where there are no workers, nothing was tried."""
    try:
        yield
    except WorkerUnavailableError as error:
        raise NotBegunError(error.retry_after or 1.0) from None
