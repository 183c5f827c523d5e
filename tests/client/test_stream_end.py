"""How a stream ends for who stops reading at its result, with a service whose status comes a little later."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from threading import Event

import grpc
import pytest

import whylight_client as wl
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from tests.client.answers import picture

DAWDLE = 0.05  # seconds between the last message and the status


class Streams(api_grpc.ExplanationServiceServicer):
    """Sends a result, and looks whether it is still heard a little later."""

    def __init__(self) -> None:
        self.ended = Event()
        self.heard = False
        self.code: grpc.StatusCode | None = None

    def StreamExplain(  # noqa: N802
        self, request: api.StreamExplainRequest, context: grpc.ServicerContext
    ) -> Iterator[api.StreamExplainResponse]:
        gone = Event()
        context.add_callback(gone.set)
        yield api.StreamExplainResponse(prediction={})
        yield api.StreamExplainResponse(result={})
        self.heard = not gone.wait(DAWDLE)
        self.ended.set()
        if self.code is not None:
            context.abort(self.code, "too late")


@pytest.fixture
def streams() -> Iterator[Streams]:
    server, servicer = grpc.server(ThreadPoolExecutor(1)), Streams()
    api_grpc.add_ExplanationServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"  # type: ignore[attr-defined]
    server.start()
    yield servicer
    server.stop(None).wait()


def read(address: str) -> None:
    with wl.Client(address) as client, closing(client.stream_explain(picture(), model="m")) as events:
        for event in events:
            if isinstance(event, wl.ResultEvent):
                return


async def read_async(address: str) -> None:
    async with wl.AsyncClient(address) as client, aclosing(client.stream_explain(picture(), model="m")) as events:
        async for event in events:
            if isinstance(event, wl.ResultEvent):
                return


@pytest.mark.parametrize("asyncio_client", [False, True])
def test_who_stops_at_the_result_has_not_cancelled(streams: Streams, asyncio_client: bool) -> None:
    """The result is given when the stream has ended, for a service counts as cancelled what is left before."""
    address = streams.address  # type: ignore[attr-defined]
    asyncio.run(read_async(address)) if asyncio_client else read(address)
    assert streams.ended.wait(20)
    assert streams.heard


@pytest.mark.parametrize("asyncio_client", [False, True])
def test_a_failure_behind_the_result_is_a_failure(streams: Streams, asyncio_client: bool) -> None:
    """The status counts."""
    streams.code = grpc.StatusCode.DEADLINE_EXCEEDED
    address = streams.address  # type: ignore[attr-defined]
    with pytest.raises(wl.DeadlineExceededError, match="too late"):
        asyncio.run(read_async(address)) if asyncio_client else read(address)
