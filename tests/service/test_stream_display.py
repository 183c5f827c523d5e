"""What the command line shows of an explanation that takes steps, with a service that answers in process."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import grpc
import pytest
from rich.console import Console
from typer.testing import CliRunner

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service import cli
from service.access import CallError
from service.client import Client
from service.stream_display import show_stream

RESULT = api.ExplainResponse(predictions=[{"index": 3, "label": "crane", "probability": 0.75}])
WHOLE = [
    api.StreamExplainResponse(prediction={"predictions": RESULT.predictions}),
    api.StreamExplainResponse(progress={"step": 7, "steps": 48, "objective": 1.25}),
    api.StreamExplainResponse(result=RESULT),
]


class Streams(api_grpc.ExplanationServiceServicer):
    """Keeps what it is asked, and sends what a test wants."""

    def __init__(self) -> None:
        self.request = api.StreamExplainRequest()
        self.remaining = 0.0
        self.events = WHOLE
        self.dawdle = 0.05  # seconds between the last message and the status
        self.cancelled = False
        self.ended = Event()
        self.code: grpc.StatusCode | None = None

    def StreamExplain(  # noqa: N802
        self, request: api.StreamExplainRequest, context: grpc.ServicerContext
    ) -> Iterator[api.StreamExplainResponse]:
        self.request, self.remaining = request, context.time_remaining()
        context.add_callback(self.ended.set)
        yield from self.events
        self.ended.wait(self.dawdle)
        self.cancelled = not context.is_active()
        if self.code is not None:
            context.abort(self.code, "too late")


@pytest.fixture
def service() -> Iterator[SimpleNamespace]:
    """Such a service on a free loopback port."""
    server, streams = grpc.server(ThreadPoolExecutor(1)), Streams()
    api_grpc.add_ExplanationServiceServicer_to_server(streams, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield SimpleNamespace(address=f"127.0.0.1:{port}", streams=streams)
    server.stop(None).wait()


def whylight(service: SimpleNamespace, folder: Path, *words: str) -> SimpleNamespace:
    image = folder / "image.png"
    image.write_bytes(b"any bytes")
    command = ["explain", str(image), "--model", "m", "--stream", *words, "--address", service.address]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, command)
    return SimpleNamespace(code=done.exit_code, text=done.output)


def test_the_command_asks_for_a_stream_and_prints_its_result(service: SimpleNamespace, tmp_path: Path) -> None:
    """With the time and the leave that were given; without a preview, which it would not show."""
    done = whylight(service, tmp_path, "--timeout", "7", "--allow-partial")
    assert done.code == 0
    assert "crane" in done.text
    asked = service.streams.request
    assert (asked.request.model, asked.request.allow_partial, asked.preview) == ("m", True, False)
    assert asked.HasField("preview")
    assert 5 < service.streams.remaining <= 7


def test_the_stream_is_read_to_its_end(service: SimpleNamespace, tmp_path: Path) -> None:
    """A result whose status has not come yet is no reason to go: the service would count a cancel."""
    assert whylight(service, tmp_path).code == 0
    assert service.streams.ended.wait(20)
    assert not service.streams.cancelled


def test_a_terminal_shows_how_far_it_is(service: SimpleNamespace) -> None:
    """The prediction, step of steps, and the objective."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120)
    with Client(service.address) as client:
        service.streams.events = WHOLE[:2]
        with pytest.raises(CallError, match="without a result"):
            show_stream(client, api.ExplainRequest(), console)
        service.streams.events = WHOLE
        assert show_stream(client, api.ExplainRequest(), console) == RESULT
    for text in ("crane (0.75)", "7/48", "objective 1.25"):
        assert text in shown.getvalue()


def test_a_stream_that_is_refused_is_said(service: SimpleNamespace, tmp_path: Path) -> None:
    """Also behind its first messages."""
    service.streams.events, service.streams.code = WHOLE[:2], grpc.StatusCode.DEADLINE_EXCEEDED
    done = whylight(service, tmp_path)
    assert done.code == 1
    assert "DEADLINE_EXCEEDED: too late" in done.text


def test_a_reader_that_stops_ends_the_call(service: SimpleNamespace) -> None:
    """Closing what it reads from is a cancel."""
    with Client(service.address) as client:
        events = client.stream_explain(api.StreamExplainRequest())
        assert next(events).HasField("prediction")
        events.close()
        assert list(events) == []
