"""Asks for the sanity check of every deployed version once, and keeps what it found."""

import logging
import uuid

from google.protobuf.message import DecodeError

from model_store.lanes import quality_lane
from protos.worker.v1 import worker_pb2
from service.catalog import Catalog
from service.converters import worker
from service.errors import ServiceError
from service.quality_metrics import QualityMetrics
from service.torchserve.client import WorkerClient

METHODS = ("grad_cam", "tibav")
TIMEOUT = 300.0  # seconds: it is slow on a large network, and nobody waits for it

logger = logging.getLogger(__name__)


class SanityChecks:
    """Has the maps of each model checked against random weights: in the worker that measures quality."""

    def __init__(self, catalog: Catalog, client: WorkerClient, metrics: QualityMetrics) -> None:
        self._catalog = catalog
        self._client = client
        self._metrics = metrics
        self._done: dict[str, str] = {}  # the weights of each model that were checked last

    async def look(self) -> None:
        """Check what is deployed and was not checked yet; what fails is tried again at the next look."""
        for model in self._catalog:
            if model.description is None:
                continue
            weights = model.known.weights_digest
            if self._done.get(model.name) != weights and await self._check(model.name, model.known.version):
                self._done[model.name] = weights

    async def _check(self, model: str, version: str) -> bool:
        request_id = uuid.uuid4().hex
        body = worker.to_request(request_id, TIMEOUT, sanity=worker_pb2.SanityWork(methods=METHODS))
        try:
            answer = await self._client.send(quality_lane(model), body, TIMEOUT)
            checks = worker.from_work_response(answer, request_id).sanity.checks
        except (ServiceError, DecodeError) as error:
            logger.info("no sanity check of %s yet: %s", model, type(error).__name__)
            return False
        self._catalog.checked(model, checks)
        for check in checks:
            self._metrics.randomised(model, version, check.method, check.rank_correlation)
            if not check.passed:
                logger.warning("maps of %s by %s hardly depend on its weights", model, check.method)
        return True
