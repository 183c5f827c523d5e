"""Does the work of a job as Explain would have done it."""

import logging
import time

from protos.explain.v1 import explanation_service_pb2 as api
from service import observation
from service.catalog import Catalog
from service.converters import to_command
from service.errors import WorkerUnavailableError
from service.explaining import Explaining
from service.identity.caller import Caller
from service.identity.gate import Gate
from service.identity.permissions import CREATE_JOB
from service.identity.precision import check_request
from service.jobs.job import Job
from service.observation import Observation, observing
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

    def __init__(self, catalog: Catalog, explaining: Explaining, gate: Gate, max_image_bytes: int) -> None:
        self._catalog = catalog
        self._explaining = explaining
        self._gate = gate
        self._max_image_bytes = max_image_bytes

    async def run(self, job: Job, request: bytes, watch: Watch) -> api.ExplainResponse:
        """Compute the answer, at full precision; whoever reads it gets it at theirs.

        Raises:
            ServiceError: what Explain would have answered.
            NotBegunError: the model's workers are not there now.
        """
        caller = self._gate.recall(job.client, CREATE_JOB)
        with observing(Observation(job.name, RPC, caller=caller)) as seen:
            try:
                return await self._explain(api.ExplainRequest.FromString(request), caller, job.timeout, watch)
            finally:
                logger.info(
                    "%s %s client=%s model=%s method=%s attempt=%d seconds=%.4f",
                    job.name, RPC, job.client, seen.model, seen.method, job.attempts, seen.elapsed,
                )  # fmt: skip

    async def _explain(
        self, request: api.ExplainRequest, caller: Caller, timeout: float, watch: Watch
    ) -> api.ExplainResponse:
        check_request(request, caller.precision)
        try:
            model = self._catalog.get_ready(request.model, request.model_version)
        except WorkerUnavailableError as error:
            raise NotBegunError(error.retry_after or 1.0) from None
        observation.current().model = model.name
        command = to_command.to_explain_command(request, model, self._max_image_bytes)
        observation.current().method = str(command.method.WhichOneof("method"))
        # The quota was charged when the job was made.
        return await self._explaining.explain_charged(command, model, time.monotonic() + timeout, watch)
