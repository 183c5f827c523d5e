"""Has explain.v1's requests for the images of one request answered."""

import asyncio
from collections.abc import Sequence

from protos.explain.v1 import explanation_service_pb2 as api
from service import observation
from service.catalog import DeployedModel
from service.commands import ExplainCommand, PredictCommand
from service.converters import to_command
from service.errors import InvalidRequestError
from service.explaining import Explaining
from service.inference.outputs import Answer
from service.inference.question import Asked
from service.inference.refusals import in_our_terms


class Asking:
    """Checks requests, charges the client for all of them together, and has them answered at the same time.

    Each image waits for room and is counted by itself. The first failure is the answer, and ends the others.
    """

    def __init__(self, explaining: Explaining, max_image_bytes: int) -> None:
        self._explaining = explaining
        self._max_image_bytes = max_image_bytes

    async def answers(self, requests: Sequence[Asked], model: DeployedModel, deadline: float) -> list[Answer]:
        """What explain.v1 would answer to each, in order, by `deadline`, a time of time.monotonic().

        Raises:
            ServiceError: what explain.v1 would raise, in the protocol's own terms.
        """
        several = len(requests) > 1
        positions = range(len(requests)) if several else (None,)
        commands = [self._check(*each, model) for each in zip(requests, positions, strict=True)]
        self._explaining.charge(*commands)
        if not several:
            return [await self._answer(commands[0], None, model, deadline)]
        tasks = [
            asyncio.create_task(self._answer_part(command, position, model, deadline))
            for position, command in enumerate(commands)
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _check(self, request: Asked, position: int | None, model: DeployedModel) -> PredictCommand:
        try:
            if isinstance(request, api.ExplainRequest):
                return to_command.to_explain_command(request, model, self._max_image_bytes)
            return to_command.to_predict_command(request, model, self._max_image_bytes)
        except InvalidRequestError as error:
            raise in_our_terms(error, _metrics(request), position) from None

    async def _answer_part(
        self, command: PredictCommand, position: int, model: DeployedModel, deadline: float
    ) -> Answer:
        with observation.observing(observation.current().part()):
            return await self._answer(command, position, model, deadline)

    async def _answer(
        self, command: PredictCommand, position: int | None, model: DeployedModel, deadline: float
    ) -> Answer:
        try:
            if isinstance(command, ExplainCommand):
                return await self._explaining.explain_charged(command, model, deadline)
            return await self._explaining.predict_charged(command, model, deadline)
        except InvalidRequestError as error:
            raise in_our_terms(error, _metrics(command), position) from None


def _metrics(asked: Asked | PredictCommand) -> list[str]:
    quality = getattr(asked, "quality", None)
    return [metric.name for metric in quality.metrics] if quality is not None else []
