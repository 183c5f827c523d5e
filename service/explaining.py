"""What happens to a checked command until its answer, however the client asked for it."""

from protos.explain.v1 import explanation_service_pb2 as api
from service import observation
from service.catalog import DeployedModel
from service.commands import ExplainCommand, PredictCommand
from service.converters import from_result
from service.identity.quotas import Quotas
from service.metrics import Metrics
from service.sampling.sampler import Sampler
from service.watching import Watch
from service.work import Work


class Explaining:
    """Charges the client's quota, has the work done, counts the answer and converts it."""

    def __init__(
        self, work: Work, metrics: Metrics, sampler: Sampler | None = None, quotas: Quotas | None = None
    ) -> None:
        self._work = work
        self._metrics = metrics
        self._sampler = sampler
        self._quotas = quotas or Quotas()

    def charge(self, command: PredictCommand) -> None:
        """Charge the caller's quota now for a command that is carried out later.

        Raises:
            QuotaError: the caller has none left.
        """
        self._quotas.charge(observation.current().caller, command)

    async def predict(self, command: PredictCommand, model: DeployedModel, deadline: float) -> api.PredictResponse:
        """Classify an image by `deadline`, a time of time.monotonic().

        Raises:
            ServiceError: it cannot be done, or not in time.
        """
        self._quotas.charge(observation.current().caller, command)
        result = await self._work.run(command, deadline)
        return from_result.to_predict_response(result, model, observation.current())

    async def explain(
        self, command: ExplainCommand, model: DeployedModel, deadline: float, watch: Watch | None = None
    ) -> api.ExplainResponse:
        """Classify and explain an image, while `watch` is told of the steps; otherwise as `predict`."""
        seen = observation.current()
        seen.method = str(command.method.WhichOneof("method"))
        self._quotas.charge(seen.caller, command)
        result = await self._work.run(command, deadline, watch)
        degenerate = sum(explanation.map.degenerate for explanation in result.explanations)
        self._metrics.answered(seen, model.known.version, len(result.explanations), degenerate)
        if self._sampler is not None:
            self._sampler.offer(command, result, model.known.version)
        return from_result.to_explain_response(result, model, seen)
