"""Keeps the catalogue, the health service and the gauges true to what the workers are."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from model_store.lanes import Lane, is_lane, registration
from protos.explain.v1 import types_pb2
from service.background import beside
from service.catalog import SERVING, Catalog, DeployedModel, LaneWorkers
from service.converters import worker
from service.errors import InternalError, ServiceError
from service.metrics import Metrics
from service.torchserve.client import ModelWorkers, WorkerClient

SERVICE = "explain.v1.ExplanationService"
DESCRIBE_TIMEOUT = 60.0
# Looks at a TorchServe elsewhere in which a model must be missing: one that has just been started may not have all yet.
GONE_AFTER = 20

logger = logging.getLogger(__name__)


class HealthSink(Protocol):
    """The part of grpc.health.v1's servicer that the monitor writes to."""

    async def set(self, service: str, status: "health_pb2.HealthCheckResponse.ServingStatus") -> None:
        """Record the status of a service and tell those who watch it."""


class Monitor:
    """Looks at the workers again and again.

    The service, and "" for the whole server, is SERVING when every model has a ready worker for predictions. A model's
    own status is under "models/NAME", those of its maps, where they have workers of their own, under
    "models/NAME/fast" and "models/NAME/slow".

    Attributes:
        all_ready: set while every lane of every model has a ready worker.
    """

    def __init__(
        self,
        client: WorkerClient,
        catalog: Catalog,
        health: HealthSink,
        metrics: Metrics,
        *,
        interval: float,
        discover: bool,
        restarts: Callable[[], int],
    ) -> None:
        """Prepare the monitor; `run` starts it.

        Args:
            client: asks the workers.
            catalog: the models to look after.
            health: told about every change.
            metrics: the gauges to keep.
            interval: seconds between two looks.
            discover: the models are those that TorchServe has; otherwise only the declared ones count.
            restarts: how often TorchServe was started again.
        """
        self._client = client
        self._catalog = catalog
        self._health = health
        self._metrics = metrics
        self._interval = interval
        self._discover = discover
        self._restarts = restarts
        self._foreign: set[str] = set()
        self._missed: dict[str, int] = {}
        self._said: dict[str, int] = {}
        self.all_ready = asyncio.Event()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Look once at every model."""
        try:
            workers = await self._client.worker_states()
        except ServiceError:
            workers = {}
        else:
            if self._discover:
                self._take_over(workers)
        await asyncio.gather(*(self._update(model, workers) for model in self._catalog))
        self._metrics.worker_restarts.set(self._restarts())
        await self._tell()

    def _take_over(self, workers: Mapping[str, ModelWorkers]) -> None:
        """Make the catalogue's models those that a TorchServe elsewhere says it has."""
        self._foreign.intersection_update(workers)  # what comes back may be ours now
        for name in workers.keys() - self._foreign:
            if not is_lane(name):
                self._catalog.declare(name)
        for model in self._catalog:
            self._missed[model.name] = 0 if model.name in workers else self._missed.get(model.name, 0) + 1
            if self._missed[model.name] >= GONE_AFTER:
                logger.warning("model %s is no longer in TorchServe", model.name)
                self._forget(model)

    def _forget(self, model: DeployedModel) -> None:
        self._catalog.forget(model.name)
        self._missed.pop(model.name, None)
        self._metrics.forgotten(model.name, Lane)

    async def _update(self, model: DeployedModel, workers: Mapping[str, ModelWorkers]) -> None:
        lanes = self._lanes(model, workers)
        for lane, each in lanes.items():
            self._metrics.looked_at(model.name, lane, each.ready, each.total)
        self._metrics.forgotten(model.name, set(Lane) - lanes.keys())
        answers = bool(lanes[Lane.PREDICT].ready) and (model.state in SERVING or await self._describe(model))
        if model.name in self._catalog:
            self._catalog.set_lanes(model.name, lanes)
            self._catalog.set_state(model.name, _state(lanes, answers, model.description is not None))

    def _lanes(self, model: DeployedModel, workers: Mapping[str, ModelWorkers]) -> dict[Lane, LaneWorkers]:
        """The workers of each lane that has its own. A TorchServe elsewhere decides which do, while it answers."""
        found = {lane: workers.get(registration(model.name, lane)) for lane in Lane}
        own = set(model.lanes)
        if self._discover and workers:
            own = {Lane.PREDICT, *(lane for lane, each in found.items() if each is not None)}
        return {
            lane: LaneWorkers(each.ready, each.total) if each is not None else LaneWorkers()
            for lane, each in found.items()
            if lane in own
        }

    async def _describe(self, model: DeployedModel) -> bool:
        """Ask a worker what its model can do: at the start, and whenever the model comes back. False: no answer."""
        request_id = uuid.uuid4().hex
        body = worker.to_describe_request(request_id, DESCRIBE_TIMEOUT)
        try:
            answer = await self._client.send(model.name, body, DESCRIBE_TIMEOUT)
            description = worker.from_work_response(answer, request_id).description
        except (ServiceError, DecodeError) as error:
            logger.warning("model %s does not describe itself: %s", model.name, type(error).__name__)
            if self._discover and isinstance(error, InternalError | DecodeError):  # somebody else's handler
                self._foreign.add(model.name)
                self._forget(model)
            return False
        self._catalog.describe(model.name, description)
        logger.info("model %s is ready on %s", model.name, description.model.device)
        return True

    async def _tell(self) -> None:
        """Tell the health service what has changed."""
        serving = {f"models/{model.name}": model.state in SERVING for model in self._catalog}
        lanes = {
            f"models/{model.name}/{lane}": workers.ready > 0 and model.state in SERVING
            for model in self._catalog
            for lane, workers in model.lanes.items()
            if lane is not Lane.PREDICT
        }
        everything = bool(serving) and all(serving.values())
        gone = dict.fromkeys(self._said, False)
        for name, good in {**gone, **lanes, **serving, SERVICE: everything, "": everything}.items():
            status = health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING
            if self._said.get(name) != status:
                self._said[name] = status
                await self._health.set(name, status)
        if everything and all(lanes.values()):
            self.all_ready.set()
        else:
            self.all_ready.clear()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look in the background for the length of a block."""
        async with beside(self.run()):
            yield


def _state(lanes: Mapping[Lane, LaneWorkers], answers: bool, was_ready: bool) -> types_pb2.ModelState:
    """The state of a model by the workers of its lanes; `answers`: one that predicts has described itself."""
    if answers:
        complete = all(each.ready >= each.total > 0 for each in lanes.values())
        return types_pb2.MODEL_STATE_READY if complete else types_pb2.MODEL_STATE_DEGRADED
    if lanes[Lane.PREDICT].total and not was_ready:
        return types_pb2.MODEL_STATE_LOADING
    return types_pb2.MODEL_STATE_UNAVAILABLE
