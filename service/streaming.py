"""StreamExplain: what a client gets while an explanation is made."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2
from protos.worker.v1 import worker_pb2
from service import observation
from service.catalog import DeployedModel
from service.commands import ExplainCommand, PredictCommand, StreamOptions
from service.converters import from_result
from service.explaining import Explaining
from service.observation import Observation, observing
from service.work import Work

# Seconds at most that the explanation lets the prediction and the preview go first. Where they share a queue, as in a
# TorchServe of somebody else, they would otherwise share a batch, and that is answered as a whole.
HEAD_START = 0.25
PREVIEW = method_pb2.Method(grad_cam=method_pb2.GradCam())

Answer = TypeVar("Answer", api.PredictResponse, api.ExplainResponse)
Convert = Callable[[worker_pb2.ImageResult, DeployedModel, Observation], Answer]


class LatestStep:
    """A watch (`service.watching.Particular`) that keeps the latest step until it is taken: nobody's slowness piles up.

    Attributes:
        changed: set whenever there is something to look at.
    """

    def __init__(self, options: StreamOptions) -> None:
        self.maps = options.maps
        self.interval = options.interval
        self.changed = asyncio.Event()
        self._latest: worker_pb2.Progress | None = None

    def progress(self, progress: worker_pb2.Progress) -> None:
        """As `service.watching.Watch.progress`. Maps that nobody has taken yet stay."""
        if self._latest is not None and not progress.maps:
            progress.maps.extend(self._latest.maps)
        self._latest = progress
        self.changed.set()

    def take(self) -> worker_pb2.Progress | None:
        """The latest step, once."""
        latest, self._latest = self._latest, None
        self.changed.clear()
        return latest


class Streaming:
    """Has a prediction, a fast map and an explanation made at the same time, and tells of them in this order."""

    def __init__(self, explaining: Explaining, work: Work) -> None:
        self._explaining = explaining
        self._work = work

    async def explain(
        self, command: ExplainCommand, model: DeployedModel, deadline: float, options: StreamOptions
    ) -> AsyncGenerator[api.StreamExplainResponse, None]:
        """Everything about one explanation by `deadline`, a time of time.monotonic(). Closing it ends the work.

        The explanation alone is charged and counted. A preview that fails is left out.

        Raises:
            ServiceError: it cannot be done, or not in time.
        """
        self._explaining.charge(command)
        preview_command = _preview(command, model) if options.preview else None
        watch = LatestStep(options)
        prediction = asyncio.create_task(self._predict(command, model, deadline))
        preview = asyncio.create_task(self._preview(preview_command, model, deadline)) if preview_command else None
        fast: list[asyncio.Task[Any]] = [prediction] if preview is None else [prediction, preview]
        result = asyncio.create_task(self._explain(fast, command, model, deadline, watch))
        result.add_done_callback(lambda _: watch.changed.set())
        try:
            await _first_of(prediction, result)
            yield api.StreamExplainResponse(prediction=await prediction)
            if preview is not None:
                await _first_of(preview, result)
                if preview.done() and preview.exception() is None:
                    yield api.StreamExplainResponse(preview=preview.result())
            while not result.done():
                await watch.changed.wait()
                step = watch.take()
                if step is not None:
                    yield api.StreamExplainResponse(progress=_to_progress(step))
            yield api.StreamExplainResponse(result=await result)
        finally:
            for task in (*fast, result):
                task.cancel()
            await asyncio.gather(*fast, result, return_exceptions=True)

    async def _explain(
        self,
        fast: "list[asyncio.Task[Any]]",
        command: ExplainCommand,
        model: DeployedModel,
        deadline: float,
        watch: LatestStep,
    ) -> api.ExplainResponse:
        await asyncio.wait(fast, timeout=HEAD_START)
        return await self._explaining.explain_charged(command, model, deadline, watch)

    async def _predict(self, command: ExplainCommand, model: DeployedModel, deadline: float) -> api.PredictResponse:
        bare = PredictCommand(command.model, command.image, command.top_k, no_cache=command.no_cache)
        return await self._aside(bare, model, deadline, "", from_result.to_predict_response)

    async def _preview(self, command: ExplainCommand, model: DeployedModel, deadline: float) -> api.ExplainResponse:
        name = str(command.method.WhichOneof("method"))
        return await self._aside(command, model, deadline, name, from_result.to_explain_response)

    async def _aside(
        self, command: PredictCommand, model: DeployedModel, deadline: float, method: str, convert: "Convert[Answer]"
    ) -> Answer:
        """Something beside the explanation, with timings of its own that are not counted."""
        with observing(dataclasses.replace(observation.current(), stages={}, method=method)) as seen:
            return convert(await self._work.run(command, deadline), model, seen)


async def _first_of(early: "asyncio.Task[Answer]", result: "asyncio.Task[api.ExplainResponse]") -> None:
    """Wait for what comes first, and raise at once what the result raises."""
    await asyncio.wait({early, result}, return_when=asyncio.FIRST_COMPLETED)
    if result.done():
        result.result()


def _preview(command: ExplainCommand, model: DeployedModel) -> ExplainCommand | None:
    """The fast map of the same classes; None where it is asked for anyway, or not to be had."""
    fast = PREVIEW.WhichOneof("method")
    if command.method.WhichOneof("method") == fast or fast not in model.methods or model.refusal(fast) is not None:
        return None
    return dataclasses.replace(command, method=PREVIEW, quality=quality_pb2.QualityOptions(), allow_partial=False)


def _to_progress(step: worker_pb2.Progress) -> api.ExplanationProgress:
    objective = step.objective if step.HasField("objective") else None
    return api.ExplanationProgress(step=step.step, steps=step.steps, objective=objective, maps=step.maps)
