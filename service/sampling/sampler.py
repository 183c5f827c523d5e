"""Takes a sample of the answered explanations, and has workers of its own measure them."""

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from model_store.lanes import quality_lane
from protos.explain.v1 import method_pb2, quality_pb2
from protos.worker.v1 import worker_pb2
from service.background import beside
from service.commands import ExplainCommand
from service.converters import worker
from service.errors import ServiceError
from service.quality_metrics import QualityMetrics
from service.sampling.figures import from_result, to_options
from service.sampling.policy import Policy
from service.torchserve.client import WorkerClient

TIMEOUT = 60.0  # seconds for one sample
MOST_BYTES = 64 * 2**20  # of images that wait

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One explanation to measure.

    Attributes:
        model: name of the model.
        version: that answered.
        method: with every parameter resolved, as it answered.
        image: the encoded image.
        target: the first class that was explained.
        quality: what to measure.
    """

    model: str
    version: str
    method: method_pb2.Method
    image: bytes
    target: int
    quality: quality_pb2.QualityOptions

    @property
    def labels(self) -> tuple[str, str, str]:
        """Model, version and method for the metrics."""
        return self.model, self.version, str(self.method.WhichOneof("method"))


class Sampler:
    """Draws samples and measures one at a time, in registrations of the models that nobody else waits for.

    It never makes an answer wait: what is drawn while too much waits already is counted as skipped. Of each second it
    uses at most `budget` seconds of the workers, on average.
    """

    def __init__(self, policy: Policy, client: WorkerClient, metrics: QualityMetrics, budget: float) -> None:
        self._policy = policy
        self._client = client
        self._metrics = metrics
        self._budget = budget
        self._chance = random.Random()  # noqa: S311 - draws samples, keeps no secrets
        self._waiting: deque[Sample] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    def offer(self, command: ExplainCommand, result: worker_pb2.ImageResult, version: str) -> None:
        """Maybe take the explanation that a client has just got as a sample. Returns at once and never fails."""
        if not result.explanations or not result.predictions:
            return
        method = result.resolved_method
        name = str(method.WhichOneof("method"))
        rule = self._policy.draw(command.model, name, result.predictions[0].probability, self._chance)
        if rule is None:
            return
        first = result.explanations[0]
        if first.map.degenerate:
            self._metrics.sampled(command.model, version, name, "degenerate")
        elif self._bytes + len(command.image) > MOST_BYTES:
            self._metrics.sampled(command.model, version, name, "skipped")
        else:
            options = to_options(rule.steps)
            self._append(Sample(command.model, version, method, command.image, first.target.index, options))

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            sample = await self._next()
            began = time.perf_counter()
            await self._measure(sample)
            self._metrics.queue_length.set(len(self._waiting))
            spent = time.perf_counter() - began
            self._metrics.spent(*sample.labels, spent)
            await asyncio.sleep(spent * (1 / self._budget - 1))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure in the background for the length of a block."""
        async with beside(self.run()):
            yield

    def _append(self, sample: Sample) -> None:
        self._waiting.append(sample)
        self._bytes += len(sample.image)
        self._metrics.queue_length.inc()
        self._arrived.set()

    async def _next(self) -> Sample:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        sample = self._waiting.popleft()
        self._bytes -= len(sample.image)
        return sample

    async def _measure(self, sample: Sample) -> None:
        request_id = uuid.uuid4().hex
        work = worker_pb2.ImageWork(
            image=sample.image, top_k=1, method=sample.method, class_indices=[sample.target], quality=sample.quality
        )
        try:
            body = worker.to_request(request_id, TIMEOUT, image=work)
            answer = await self._client.send(quality_lane(sample.model), body, TIMEOUT)
            result = worker.from_work_response(answer, request_id).image
            self._metrics.measured(*sample.labels, from_result(result.explanations[0]))
        except (ServiceError, DecodeError, ValueError, IndexError) as error:
            logger.warning("a quality sample of %s failed: %s", sample.model, type(error).__name__)
            self._metrics.sampled(*sample.labels, "failed")
