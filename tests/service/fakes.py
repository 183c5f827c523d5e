"""A worker that answers in process, for tests of the front."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health

from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.admission import Admission
from service.catalog import Catalog
from service.draining import Drain
from service.explaining import Explaining
from service.identity.quotas import Quotas
from service.metrics import Metrics
from service.monitor import Monitor
from service.sampling.policy import Policy
from service.sampling.sampler import Sampler
from service.server import grpc_server, identity
from service.servicer import ExplanationServicer
from service.settings import Settings
from service.torchserve.client import ModelWorkers
from service.work import Workers

LABELS = ("cat", "dog", "crane", "crane")
MODEL = "tiny"


def description() -> worker_pb2.DescribeResult:
    """What the fake worker says of its model: Grad-CAM and Layer-CAM work, CAM does not."""
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
        ],
    )
    layer = types_pb2.ParameterInfo(name="layer", type=types_pb2.PARAMETER_TYPE_STRING)
    further = types_pb2.ParameterInfo(name="further_layers", type=types_pb2.PARAMETER_TYPE_STRING_LIST, maximum=3)
    methods = [
        types_pb2.MethodInfo(name="grad_cam", parameters=[layer]),
        types_pb2.MethodInfo(name="layer_cam", parameters=[layer, further]),
        types_pb2.MethodInfo(name="cam"),
    ]
    metrics = [types_pb2.MetricInfo(name="average_drop"), types_pb2.MetricInfo(name="rank_correlation", compares=True)]
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
    """Stands in for the client of TorchServe."""

    def __init__(self) -> None:
        self.answer: Answer = prediction
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.workers = {MODEL: ModelWorkers(MODEL, ready=1, total=1, versions=("1.0",))}
        self.requests: list[worker_pb2.WorkRequest] = []
        self.asked: list[str] = []

    async def send(self, model: str, body: bytes, timeout: float) -> bytes:
        request = worker_pb2.WorkRequest.FromString(body)
        if request.HasField("describe"):
            return worker_pb2.WorkResponse(
                status=worker_pb2.WORK_STATUS_OK, description=description()
            ).SerializeToString()
        self.requests.append(request)
        self.asked.append(model)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.answer(request).SerializeToString()

    async def worker_states(self) -> dict[str, ModelWorkers]:
        return self.workers


class Front:
    """The service's front on a fake worker, with a channel to it."""

    def __init__(self, worker: FakeWorker, settings: Settings, policy: Policy | None = None) -> None:
        self.worker = worker
        self.metrics = Metrics()
        self.catalog = Catalog()
        self.catalog.declare(MODEL)
        self.admission = Admission(settings.in_flight, settings.queue_size, self.metrics)
        self.health = health.aio.HealthServicer()
        self.drain = Drain()
        self.monitor = self.make_monitor(discover=False)
        self.now = 0.0
        self.sampler = None
        if policy is not None:
            self.sampler = Sampler(policy, worker, self.metrics.quality, settings.quality_budget)  # type: ignore[arg-type]
        quotas = Quotas(clock=lambda: self.now)
        self.work = Workers(self.admission, worker)  # type: ignore[arg-type]
        explaining = Explaining(self.work, self.metrics, self.sampler, quotas)
        self.servicer = ExplanationServicer(settings, self.catalog, explaining)
        self.address: str
        self.channel: grpc.aio.Channel
        self.stub: api_grpc.ExplanationServiceStub

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
    policy: Policy | None = None, credentials: grpc.ChannelCredentials | None = None, **settings: object
) -> AsyncIterator[Front]:
    """Run the front on a free loopback port; with `credentials` its channel speaks TLS.

    What its sampler draws by `policy` waits until a test measures it.
    """
    chosen = Settings(_env_file=None, **{"port": 0, **settings})  # type: ignore[arg-type]
    made = Front(FakeWorker(), chosen, policy)
    async with identity(chosen, interval=RELOAD_INTERVAL) as gate:
        server, made.address = grpc_server(chosen, made.servicer, made.health, made.metrics, gate, made.drain)
        await server.start()
        await made.monitor.look()
        async with open_channel(made.address, credentials) as channel:
            made.channel = channel
            made.stub = api_grpc.ExplanationServiceStub(channel)
            yield made
        await server.stop(None)


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel with TLS, where there are credentials for it."""
    return grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
