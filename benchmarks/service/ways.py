"""Three ways to ask the same of the same handler."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.service import bare
from benchmarks.service.cases import PREDICTION, Case
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.worker.v1 import worker_pb2
from service.converters.worker import to_work_request
from service.torchserve.client import WorkerClient
from service.torchserve.endpoint import Endpoint

SERVICE, TORCHSERVE, BARE = "service", "TorchServe", "bare gRPC"
WAYS = (SERVICE, TORCHSERVE, BARE)
TIMEOUT = 120.0  # seconds
STAGES = ("admission", "transport", "decode", "compute", "render", "quality")


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        best: index of the most probable class.
        stages: seconds of each stage, as far as the way tells them.
    """

    best: int
    stages: Mapping[str, float] = field(default_factory=dict)


Ask = Callable[[Case, bytes], Awaitable[Answer]]


@dataclass(frozen=True)
class Ways:
    """The ways by name, and what asks the bare server for the handler's limit.

    Attributes:
        ask: by name of the way.
        limit: requests a second of the handler alone, for a case, some images, a batch size and the seconds to take.
    """

    ask: Mapping[str, Ask]
    limit: Callable[[Case, Sequence[bytes], int, float], Awaitable[float]]


@contextlib.asynccontextmanager
async def connected(service: str, endpoint: Endpoint, server: str) -> AsyncIterator[Ways]:
    """The ways to a service, to the TorchServe behind it, and to a bare server, each over one connection or pool."""
    client = WorkerClient(lambda: endpoint)
    try:
        async with (
            grpc.aio.insecure_channel(service, bare.UNLIMITED) as front,
            grpc.aio.insecure_channel(server, bare.UNLIMITED) as own,
        ):
            asks = {SERVICE: _service(front), TORCHSERVE: _torchserve(client), BARE: _bare(own)}
            yield Ways(asks, _limit(own))
    finally:
        await client.close()


def _service(channel: grpc.aio.Channel) -> Ask:
    stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]

    async def ask(case: Case, image: bytes) -> Answer:
        procedure = stub.Predict if case.work == PREDICTION else stub.Explain
        answer: api.PredictResponse | api.ExplainResponse = await procedure(case.request(image), timeout=TIMEOUT)
        stages = {name: getattr(answer.timings, name).ToNanoseconds() / 1e9 for name in STAGES}
        return Answer(answer.predictions[0].index, stages)

    return ask


def _torchserve(client: WorkerClient) -> Ask:
    """As whoever uses TorchServe without the service would: HTTP, here on its unix socket, which costs it least."""

    async def ask(case: Case, image: bytes) -> Answer:
        body = await client.send(case.model, _body(case, image), TIMEOUT)
        return _answer(worker_pb2.WorkResponse.FromString(body))

    return ask


def _bare(channel: grpc.aio.Channel) -> Ask:
    async def ask(case: Case, image: bytes) -> Answer:
        procedure: Any = channel.unary_unary(
            f"{bare.HANDLER}{case.model}", response_deserializer=worker_pb2.WorkResponse.FromString
        )
        return _answer(await procedure(_body(case, image), timeout=TIMEOUT))

    return ask


def _limit(channel: grpc.aio.Channel) -> Callable[[Case, Sequence[bytes], int, float], Awaitable[float]]:
    async def limit(case: Case, images: Sequence[bytes], batch: int, seconds: float) -> float:
        procedure: Any = channel.stream_unary(f"{bare.LIMIT}{case.model}")
        bodies = [_body(case, image) for image in images]
        metadata = ((bare.BATCH_KEY, str(batch)), (bare.SECONDS_KEY, str(seconds)))
        return float(await procedure(iter(bodies), timeout=TIMEOUT + seconds, metadata=metadata))

    return limit


def _body(case: Case, image: bytes) -> bytes:
    return to_work_request(case.command(image), "benchmark", TIMEOUT)


def _answer(response: worker_pb2.WorkResponse) -> Answer:
    return Answer(response.image.predictions[0].index)
