"""Work that counts how often it is done, and requests of several clients."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service import observation
from service.cache.store import Store
from service.cache.work import CachedWork
from service.catalog import Catalog
from service.commands import ExplainCommand, PredictCommand
from service.errors import DeadlineError
from service.identity.caller import Caller, Precision
from service.metrics import Metrics
from service.observation import Observation
from service.watching import Watch

MODEL = "tiny"
WEIGHTS = "sha256:1"
STAGES = {"compute": 1.0, "render": 0.5}
Asked: TypeAlias = "asyncio.Task[tuple[worker_pb2.ImageResult, Observation]]"


class CountedWork:
    """Answers when its gate is open; the layer that a method leaves out is "layer4".

    An image is its pixels in upper or lower case: two encodings of the same.
    """

    def __init__(self) -> None:
        self.commands: list[PredictCommand] = []
        self.request_ids: list[str] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.weights = WEIGHTS
        self.watches: list[Watch | None] = []

    async def run(self, command: PredictCommand, deadline: float, watch: Watch | None = None) -> worker_pb2.ImageResult:
        """As `Work.run`."""
        seen = observation.current()
        self.commands.append(command)
        self.request_ids.append(seen.request_id)
        self.watches.append(watch)
        seen.stages["compute"] = 1.0
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except TimeoutError:
            raise DeadlineError("the worker's time is over") from None
        if self.error is not None:
            raise self.error
        seen.stages["render"] = 0.5
        return self._answer(command)

    def _answer(self, command: PredictCommand) -> worker_pb2.ImageResult:
        result = worker_pb2.ImageResult(
            predictions=[types_pb2.ClassScore(index=1, label=f"number {len(self.commands)}")],
            content_digest=command.image.lower(),
            weights_digest=self.weights,
            image=types_pb2.ImageInfo(format="PNG" if command.image.islower() else "BMP"),
        )
        result.compute.FromSeconds(1)
        if isinstance(command, ExplainCommand):
            result.resolved_method.CopyFrom(command.method)
            if not result.resolved_method.grad_cam.layer:
                result.resolved_method.grad_cam.layer = "layer4"
        return result


def describe(catalog: Catalog, **changes: str) -> None:
    """Have a worker say what its model is."""
    model = types_pb2.Model(**{"name": MODEL, "version": "1.0", "weights_digest": WEIGHTS, **changes})
    catalog.describe(MODEL, worker_pb2.DescribeResult(model=model))


class Setup:
    """A cache on counted work.

    Attributes:
        inner: the work.
        now: the time on the cache's clock.
    """

    def __init__(self) -> None:
        self.inner = CountedWork()
        self.catalog = Catalog()
        self.catalog.declare(MODEL)
        describe(self.catalog)
        self.metrics = Metrics()
        self.now = 0.0
        store = Store(1_000_000, 3600.0, self.metrics.cache, clock=lambda: self.now)
        self.work = CachedWork(self.inner, self.catalog, store, self.metrics.cache)

    async def ask(
        self,
        command: PredictCommand | None = None,
        *,
        client: str = "viewer",
        request_id: str = "id",
        timeout: float = 30.0,
        watch: Watch | None = None,
    ) -> tuple[worker_pb2.ImageResult, Observation]:
        """The answer to a client, and what was observed of it."""
        with asking(client, request_id) as seen:
            return await self.work.run(command or explain(), time.monotonic() + timeout, watch), seen

    def begin(self, command: PredictCommand | None = None, **how: object) -> Asked:
        """Ask at the same time as others."""
        return asyncio.create_task(self.ask(command, **how))  # type: ignore[arg-type]

    def outcome(self, name: str) -> float | None:
        """How many answers came about in a way."""
        labels = {"model": MODEL, "outcome": name}
        return self.metrics.registry.get_sample_value("whylight_cache_requests_total", labels)


@contextlib.contextmanager
def asking(client: str, request_id: str) -> Iterator[Observation]:
    """A request of a client."""
    caller = Caller(client, frozenset(), Precision.FULL)
    with observation.observing(Observation(request_id, "Explain", MODEL, caller=caller)) as seen:
        yield seen


def explain(image: bytes = b"pixels", layer: str | None = None, **changes: object) -> ExplainCommand:
    """A request for Grad-CAM of the most probable class."""
    fields = {
        "model": MODEL,
        "image": image,
        "top_k": 5,
        "method": method_pb2.Method(grad_cam=method_pb2.GradCam(layer=layer)),
        "class_indices": (),
        "target_top_k": 1,
        "output": api.OutputOptions(),
        "quality": quality_pb2.QualityOptions(),
    }
    return ExplainCommand(**{**fields, **changes})  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    """Let the others run until a condition holds, a second at most."""
    async with asyncio.timeout(1):
        while not condition():
            await asyncio.sleep(0)
