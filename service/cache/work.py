"""Work whose answers are kept for the client that asked, and shared by identical requests that come at once."""

from protos.explain.v1 import method_pb2
from protos.worker.v1 import worker_pb2
from service import observation
from service.cache.flights import Flights
from service.cache.keys import Request
from service.cache.metrics import CacheMetrics
from service.cache.store import Store
from service.catalog import Catalog
from service.commands import PredictCommand
from service.converters.from_result import is_partial
from service.observation import CacheOutcome, CacheUse
from service.watching import Watch
from service.work import Work

# These belong to one file or one computation, not to the answer.
_OWN = ("image", "decode", "compute", "render", "handler", "quality")


class CachedWork:
    """Has work done only where no answer to the same request is kept or on its way.

    Two requests are the same when a client asks the same of the same deployed model about images that decode to the
    same pixels. Which images do, and what a method's parameters resolve to, it learns from the worker's answers.
    """

    def __init__(self, work: Work, catalog: Catalog, store: Store, metrics: CacheMetrics) -> None:
        self._work = work
        self._catalog = catalog
        self._store = store
        self._metrics = metrics
        self._flights = Flights()

    async def run(self, command: PredictCommand, deadline: float, watch: Watch | None = None) -> worker_pb2.ImageResult:
        """As `Work.run`; `watch` is told nothing where the answer is kept."""
        if command.no_cache:
            self._note(command, CacheOutcome.BYPASS)
            return await self._work.run(command, deadline, watch)
        model = self._catalog.get(command.model)
        request = await Request.of(command, observation.current().caller.name, model.fingerprint)
        request = self._resolved(request)
        kept = self._find(request)
        if kept is not None:
            result, age = kept
            self._note(command, CacheOutcome.HIT, age)
            return result

        async def compute(watches: Watch | None) -> worker_pb2.ImageResult:
            answer = await self._work.run(command, deadline, watches)
            if answer.weights_digest == model.known.weights_digest:  # else it has been deployed anew meanwhile
                self._keep(request, answer)
            return answer

        key = request.flight_key(watch)
        result, shared = await self._flights.join(key, deadline, watch, compute)
        self._note(command, CacheOutcome.SHARED if shared else CacheOutcome.MISS)
        return result

    def _resolved(self, request: Request) -> Request:
        """With the method's parameters written out, where a worker has said before what they are."""
        kept = self._store.get(request.method_key) if request.method else None
        return request if kept is None else request.resolved(method_pb2.Method.FromString(kept[0]))

    def _find(self, request: Request) -> tuple[worker_pb2.ImageResult, float] | None:
        """The kept answer and its age in seconds."""
        known = self._store.get(request.image_key)
        if known is None:
            return None
        image = worker_pb2.ImageResult.FromString(known[0])
        kept = self._store.get(request.answer_key(image.content_digest))
        if kept is None:
            return None
        result = worker_pb2.ImageResult.FromString(kept[0])
        result.MergeFrom(image)
        return result, kept[1]

    def _keep(self, request: Request, result: worker_pb2.ImageResult) -> None:
        if not result.content_digest or is_partial(result):
            return
        image = worker_pb2.ImageResult(content_digest=result.content_digest, image=result.image)
        self._store.put(request.image_key, image.SerializeToString())
        if request.method:
            method = result.resolved_method
            resolved = request.resolved(method)
            for each in {request.method_key, resolved.method_key}:
                self._store.put(each, resolved.method)
            request = resolved
        answer = worker_pb2.ImageResult()
        answer.CopyFrom(result)
        for name in (*_OWN, "content_digest"):
            answer.ClearField(name)
        self._store.put(request.answer_key(result.content_digest), answer.SerializeToString())

    def _note(self, command: PredictCommand, outcome: CacheOutcome, age: float = 0.0) -> None:
        observation.current().cache = CacheUse(outcome, age)
        self._metrics.requests.labels(command.model, outcome.value).inc()
