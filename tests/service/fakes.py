"""A worker that answers in process, for tests of the front."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health

from model_store.lanes import Lane, registration
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.admission import Admission, limits
from service.cache.store import Store
from service.cache.work import CachedWork
from service.catalog import Catalog
from service.costs import Costs
from service.draining import Drain, DrainInterceptor
from service.explaining import Explaining
from service.identity.interceptor import IdentityInterceptor
from service.identity.quotas import Quotas
from service.inference.servicer import InferenceServicer
from service.interceptors import CallInterceptor
from service.jobs.jobs import Jobs
from service.jobs.servicer import OperationsServicer
from service.jobs.start import running_jobs
from service.listening import Servicers, grpc_server
from service.metrics import Metrics
from service.monitor import Monitor
from service.parts import identity
from service.progress.hub import Hub
from service.progress.patience import Patience
from service.sampling.policy import Policy
from service.sampling.sampler import Sampler
from service.servicer import ExplanationServicer
from service.settings import Settings
from service.streaming import Streaming
from service.throttling import Throttle, ThrottleInterceptor
from service.torchserve.client import ModelWorkers
from service.tracing import Tracing
from service.work import Work, Workers

LABELS = ("cat", "dog", "crane", "crane")
MODEL = "tiny"


def description() -> worker_pb2.DescribeResult:
    """What the fake worker says of its model: Grad-CAM, Layer-CAM and, slowly, RISE work, CAM does not."""
    model = types_pb2.Model(
        name=MODEL,
        version="1.0",
        labels=LABELS,
        class_count=len(LABELS),
        weights_digest="sha256:" + "0" * 64,
        device="cpu",
        methods=[
            types_pb2.MethodSupport(method="grad_cam", supported=True),
            types_pb2.MethodSupport(method="layer_cam", supported=True),
            types_pb2.MethodSupport(method="cam", supported=False, reason="it has no linear head"),
            types_pb2.MethodSupport(method="rise", supported=True),
        ],
    )
    layer = types_pb2.ParameterInfo(name="layer", type=types_pb2.PARAMETER_TYPE_STRING)
    further = types_pb2.ParameterInfo(name="further_layers", type=types_pb2.PARAMETER_TYPE_STRING_LIST, maximum=3)
    methods = [
        types_pb2.MethodInfo(name="grad_cam", parameters=[layer], lane=types_pb2.LANE_FAST),
        types_pb2.MethodInfo(name="layer_cam", parameters=[layer, further], lane=types_pb2.LANE_FAST),
        types_pb2.MethodInfo(name="cam", lane=types_pb2.LANE_FAST),
        types_pb2.MethodInfo(name="rise", lane=types_pb2.LANE_SLOW),
    ]
    metrics = [
        types_pb2.MetricInfo(name="average_drop", lane=types_pb2.LANE_FAST),
        types_pb2.MetricInfo(name="insertion", lane=types_pb2.LANE_SLOW),
        types_pb2.MetricInfo(name="rank_correlation", compares=True, lane=types_pb2.LANE_FAST),
    ]
    return worker_pb2.DescribeResult(model=model, methods=methods, metrics=metrics)


def prediction(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """A sure prediction of class 1, with a degenerate map for each class asked for."""
    image = request.image
    result = worker_pb2.ImageResult(
        predictions=[types_pb2.ClassScore(index=1, label="dog", logit=2.0, probability=0.9)],
        explanations=[
            {"target": {"index": index, "label": LABELS[index]}, "map": {"degenerate": True}}
            for index in image.class_indices
        ],
    )
    if image.HasField("method"):
        result.resolved_method.CopyFrom(image.method)
        result.target_layer = "layer4"
    result.handler.FromMicroseconds(1500)
    result.compute.FromMicroseconds(1000)
    return worker_pb2.WorkResponse(status=worker_pb2.WORK_STATUS_OK, image=result)


Answer = Callable[[worker_pb2.WorkRequest], worker_pb2.WorkResponse]


class FakeWorker:
    """Stands in for the client of TorchServe.

    Attributes:
        answer: makes the answers.
        error: is raised in place of an answer.
        gate: nothing is answered while it is not set.
        gates: the same for a registration by itself.
        workers: of each registration; `add_lanes` makes those of the model's lanes.
        requests: that came, without those for a description.
        asked: the registration of each of them.
    """

    def __init__(self) -> None:
        self.answer: Answer = prediction
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.gates: dict[str, asyncio.Event] = {}
        self.workers = {MODEL: ModelWorkers(MODEL, ready=1, total=1, versions=("1.0",))}
        self.requests: list[worker_pb2.WorkRequest] = []
        self.asked: list[str] = []

    def add_lanes(self, *lanes: Lane, ready: int = 1) -> None:
        """Have workers for these lanes of the model."""
        for lane in lanes:
            name = registration(MODEL, lane)
            self.workers[name] = ModelWorkers(name, ready=ready, total=1, versions=("1.0",))

    async def send(self, model: str, body: bytes, timeout: float) -> bytes:
        request = worker_pb2.WorkRequest.FromString(body)
        if request.HasField("describe"):
            return worker_pb2.WorkResponse(
                status=worker_pb2.WORK_STATUS_OK, description=description()
            ).SerializeToString()
        self.requests.append(request)
        self.asked.append(model)
        await self.gates.get(model, self.gate).wait()
        if self.error is not None:
            raise self.error
        return self.answer(request).SerializeToString()

    async def worker_states(self) -> dict[str, ModelWorkers]:
        return self.workers


class Front:
    """The service's front on a fake worker, with a channel to it."""

    def __init__(
        self, worker: FakeWorker, settings: Settings, policy: Policy | None = None, lanes: Sequence[Lane] = ()
    ) -> None:
        self.worker = worker
        self.metrics = Metrics()
        self.catalog = Catalog()
        self.catalog.declare(MODEL, (Lane.PREDICT, *lanes))
        self.costs = Costs()
        self.admission = Admission(limits(settings), self.metrics, self.costs)
        self.health = health.aio.HealthServicer()
        self.drain = Drain()
        self.monitor = self.make_monitor(discover=False)
        self.now = 0.0
        self.sampler = None
        if policy is not None:
            self.sampler = Sampler(policy, worker, self.metrics.quality, settings.quality_budget)  # type: ignore[arg-type]
        quotas = Quotas(clock=lambda: self.now)
        self.patience = Patience(Hub(), self.metrics)
        self.work: Work = Workers(
            self.catalog,
            self.admission,
            worker,  # type: ignore[arg-type]
            self.costs,
            self.patience,
            settings.longest_timeout,
        )
        if settings.cache_bytes:
            store = Store(settings.cache_bytes, settings.cache_seconds, self.metrics.cache, clock=lambda: self.now)
            self.work = CachedWork(self.work, self.catalog, store, self.metrics.cache)
        self.explaining = Explaining(self.work, self.metrics, self.sampler, quotas)
        self.address: str
        self.channel: grpc.aio.Channel
        self.stub: api_grpc.ExplanationServiceStub
        self.operations: operations_pb2_grpc.OperationsStub
        self.jobs: Jobs

    def make_monitor(self, discover: bool) -> Monitor:
        """A monitor that looks only when told to."""
        return Monitor(
            self.worker,  # type: ignore[arg-type]
            self.catalog,
            self.health,
            self.metrics,
            interval=1.0,
            discover=discover,
            restarts=lambda: 0,
        )


RELOAD_INTERVAL = 0.02


@asynccontextmanager
async def front(
    policy: Policy | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    lanes: Sequence[Lane] = (),
    traces: Tracing | None = None,
    **settings: object,
) -> AsyncIterator[Front]:
    """Run the front on a free loopback port; with `credentials` its channel speaks TLS.

    The model has workers for predictions, and for each of `lanes` besides.

    What its sampler draws by `policy` waits until a test measures it. It keeps no answers unless told to.
    """
    chosen = Settings(_env_file=None, **{"port": 0, "cache_bytes": 0, **settings})  # type: ignore[arg-type]
    made = Front(FakeWorker(), chosen, policy, lanes)
    made.worker.add_lanes(*lanes)
    async with (
        identity(chosen, interval=RELOAD_INTERVAL) as gate,
        made.patience.running(),
        running_jobs(chosen, made.catalog, made.explaining, gate, made.metrics, traces) as made.jobs,
    ):
        streaming = Streaming(made.explaining, made.work)
        servicer = ExplanationServicer(chosen, made.catalog, made.explaining, streaming, made.jobs, made.costs)
        operations = OperationsServicer(made.jobs, chosen.default_timeout)
        interceptors = [
            ThrottleInterceptor(Throttle(), made.metrics.throttled_call),
            CallInterceptor(made.metrics, traces),
            IdentityInterceptor(gate),
            DrainInterceptor(made.drain),
        ]
        inference = InferenceServicer(chosen, made.catalog, made.explaining, lambda: made.drain.begun)
        servicers = Servicers(servicer, operations, inference, made.health)
        server, made.address = grpc_server(chosen, servicers, interceptors)
        await server.start()
        await made.monitor.look()
        async with open_channel(made.address, credentials) as channel:
            made.channel = channel
            made.stub = api_grpc.ExplanationServiceStub(channel)
            made.operations = operations_pb2_grpc.OperationsStub(channel)
            yield made
        await server.stop(None)


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel with TLS, where there are credentials for it."""
    return grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
