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

    async def predict(self, command: PredictCommand, model: DeployedModel, deadline: float) -> api.PredictResponse:
        """Classify an image by `deadline`, a time of time.monotonic().

        Raises:
            ServiceError: it cannot be done, or not in time.
        """
        self.charge(command)
        return await self.predict_charged(command, model, deadline)

    async def predict_charged(
        self, command: PredictCommand, model: DeployedModel, deadline: float
    ) -> api.PredictResponse:
        """As `predict`, of a command that was charged."""
        result = await self._work.run(command, deadline)
        return from_result.to_predict_response(result, model, observation.current())

    async def explain(
        self, command: ExplainCommand, model: DeployedModel, deadline: float, watch: Watch | None = None
    ) -> api.ExplainResponse:
        """Classify and explain an image, while `watch` is told of the steps; otherwise as `predict`."""
        self.charge(command)
        return await self.explain_charged(command, model, deadline, watch)

    def charge(self, *commands: PredictCommand) -> None:
        """Note what is asked for, of each image the same, and charge the client's quota for it.

        Raises:
            QuotaError: the client has none left.
        """
        seen = observation.current()
        if isinstance(commands[0], ExplainCommand):
            seen.method = str(commands[0].method.WhichOneof("method"))
        self._quotas.charge(seen.caller, *commands)

    async def explain_charged(
        self, command: ExplainCommand, model: DeployedModel, deadline: float, watch: Watch | None = None
    ) -> api.ExplainResponse:
        """As `explain`, of a command that was charged."""
        seen = observation.current()
        result = await self._work.run(command, deadline, watch)
        degenerate = sum(explanation.map.degenerate for explanation in result.explanations)
        self._metrics.answered(seen, model.known.version, len(result.explanations), degenerate)
        # A map that is answered again is measured once, and half a map never.
        again = seen.cache is not None and seen.cache.repeated
        if self._sampler is not None and not again and not from_result.is_partial(result):
            self._sampler.offer(command, result, model.known.version)
        return from_result.to_explain_response(result, model, seen)
