"""The client for asyncio."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack

from google.longrunning import operations_pb2

from whylight_client import choices
from whylight_client._protos.explain.v1 import explanation_service_pb2 as api
from whylight_client.calls import AsyncCalls
from whylight_client.choices import ExplainOptions
from whylight_client.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, Connection
from whylight_client.descriptions import MethodInfo, MetricInfo, ModelInfo
from whylight_client.events import Event
from whylight_client.from_descriptions import to_method, to_metric, to_model
from whylight_client.from_messages import to_event, to_explanation, to_prediction
from whylight_client.images import ImageLike, encode
from whylight_client.jobs import AsyncJob, JobStatus, to_job_status
from whylight_client.results import ExplainResult, PredictResult


class AsyncClient:
    """As `Client`, with coroutines, for an `async with` block or until `close`. To be made where the event loop runs.

    Images are read and encoded in a thread. Cancelling a task ends its call, and the work behind it.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: bool | str | os.PathLike[str] = False,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: bool = True,
    ) -> None:
        """As `Client`."""
        self._calls = AsyncCalls(Connection(address, token, tls, certificate, retry), timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every call and the connection."""
        await self._calls.close()

    async def predict(
        self,
        image: ImageLike,
        *,
        model: str,
        top_k: int | None = None,
        model_version: str = "",
        use_cache: bool = True,
        timeout: float | None = None,
    ) -> PredictResult:
        """As `Client.predict`."""
        data = await asyncio.to_thread(encode, image)
        request = choices.predict_request(data, model, top_k, model_version, use_cache)
        return to_prediction(await self._calls.unary(self._calls.service.Predict, request, timeout))

    async def explain(
        self, image: ImageLike, *, model: str, timeout: float | None = None, **options: Unpack[ExplainOptions]
    ) -> ExplainResult:
        """As `Client.explain`."""
        request = choices.explain_request(await asyncio.to_thread(encode, image), model, options)
        response = await self._calls.unary(self._calls.service.Explain, request, timeout)
        return to_explanation(response, request.image)

    async def stream_explain(
        self,
        image: ImageLike,
        *,
        model: str,
        preview: bool = True,
        progress_maps: bool = False,
        progress_interval: float | None = None,
        timeout: float | None = None,
        **options: Unpack[ExplainOptions],
    ) -> AsyncGenerator[Event, None]:
        """As `Client.stream_explain`; every error comes while the events are read."""
        source = await asyncio.to_thread(encode, image)
        request = api.StreamExplainRequest(
            request=choices.explain_request(source, model, options),
            preview=preview,
            progress_maps=progress_maps,
            progress_interval=choices.duration(progress_interval),
        )
        async with aclosing(self._calls.stream(self._calls.service.StreamExplain, request, timeout)) as responses:
            async for response in responses:
                event = to_event(response, source)
                if event is not None:
                    yield event

    async def explain_later(
        self,
        image: ImageLike,
        *,
        model: str,
        request_id: str = "",
        compute_timeout: float | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        **options: Unpack[ExplainOptions],
    ) -> AsyncJob:
        """As `Client.explain_later`."""
        request = api.CreateExplanationJobRequest(
            request=choices.explain_request(await asyncio.to_thread(encode, image), model, options),
            request_id=request_id,
            timeout=choices.duration(compute_timeout),
            ttl=choices.duration(ttl),
        )
        operation = await self._calls.unary(self._calls.service.CreateExplanationJob, request, timeout)
        return AsyncJob(self._calls, operation.name, request.request.image)

    def job(self, name: str) -> AsyncJob:
        """As `Client.job`."""
        return AsyncJob(self._calls, name)

    async def jobs(self, *, done: bool | None = None) -> AsyncIterator[JobStatus]:
        """As `Client.jobs`."""
        request = operations_pb2.ListOperationsRequest(filter="" if done is None else f"done={str(done).lower()}")
        while True:
            page = await self._calls.unary(self._calls.operations.ListOperations, request, None)
            for operation in page.operations:
                yield to_job_status(operation)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def models(self, *, timeout: float | None = None) -> tuple[ModelInfo, ...]:
        """As `Client.models`."""
        response = await self._calls.unary(self._calls.service.ListModels, api.ListModelsRequest(), timeout)
        return tuple(map(to_model, response.models))

    async def model(self, name: str, *, timeout: float | None = None) -> ModelInfo:
        """As `Client.model`."""
        response = await self._calls.unary(self._calls.service.GetModel, api.GetModelRequest(model=name), timeout)
        return to_model(response.model)

    async def methods(self, model: str = "", *, timeout: float | None = None) -> tuple[MethodInfo, ...]:
        """As `Client.methods`."""
        request = api.ListMethodsRequest(model=model)
        response = await self._calls.unary(self._calls.service.ListMethods, request, timeout)
        return tuple(map(to_method, response.methods))

    async def metrics(self, *, timeout: float | None = None) -> tuple[MetricInfo, ...]:
        """As `Client.metrics`."""
        response = await self._calls.unary(self._calls.service.ListMetrics, api.ListMetricsRequest(), timeout)
        return tuple(map(to_metric, response.metrics))
