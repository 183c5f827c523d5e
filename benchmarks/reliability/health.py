"""The service's health, as a load balancer sees it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.reliability.load import CHANNEL_OPTIONS
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import types_pb2

_SERVING = health_pb2.HealthCheckResponse.SERVING
_INTERVAL = 0.05  # seconds between two looks
_TIMEOUT = 1.0


class HealthWatch:
    """Asks for the health all the time, and remembers when it changed.

    Args:
        address: host:port of the service.
        lanes: look also at the models: health speaks of predictions, and a lane for maps may have lost its workers.
    """

    def __init__(self, address: str, *, lanes: bool = False) -> None:
        self._address = address
        self._lanes = lanes
        self.changes: list[tuple[float, str]] = []
        """time.monotonic() and what the health became: SERVING, DEGRADED, NOT_SERVING, or GONE where nobody answers."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["HealthWatch"]:
        """Watch for the length of a block."""
        watching = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    @property
    def now(self) -> str:
        """What the health was at the last look; "" before the first."""
        return self.changes[-1][1] if self.changes else ""

    def settled(self, status: str, seconds: float) -> bool:
        """Whether the health has been `status` for some seconds."""
        return self.now == status and time.monotonic() - self.changes[-1][0] >= seconds

    def first(self, status: str, after: float) -> float | None:
        """When the health first became `status` after a time; None: it did not."""
        return next((when for when, each in self.changes if each == status and when >= after), None)

    async def _watch(self) -> None:
        async with grpc.aio.insecure_channel(self._address, CHANNEL_OPTIONS) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            models = api_grpc.ExplanationServiceStub(channel) if self._lanes else None  # type: ignore[no-untyped-call]
            while True:
                status = await _look(stub, models)
                if status != self.now:
                    self.changes.append((time.monotonic(), status))
                await asyncio.sleep(_INTERVAL)


async def _look(stub: health_pb2_grpc.HealthStub, models: api_grpc.ExplanationServiceStub | None) -> str:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)
        if answer.status != _SERVING:
            return "NOT_SERVING"
        if models is None:
            return "SERVING"
        known = (await models.ListModels(api.ListModelsRequest(), timeout=_TIMEOUT)).models
    except grpc.aio.AioRpcError:
        return "GONE"
    return "SERVING" if all(each.state == types_pb2.MODEL_STATE_READY for each in known) else "DEGRADED"
