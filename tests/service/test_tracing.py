"""Traces: one tree of spans for each call, with what the worker did, and nothing that a client sent."""

import asyncio
import logging
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import torch
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from explainers import Network
from handlers.loading import load_model
from handlers.settings import Limits
from handlers.worker import Worker
from protos.explain.v1 import explanation_service_pb2 as api
from protos.worker.v1 import worker_pb2
from service.errors import WorkerUnavailableError
from service.settings import Settings
from service.spans import Spans
from service.tracing import NoTracing, TracingError, tracing
from tests.handlers.pictures import encode, photograph
from tests.service.collector import collecting
from tests.service.fakes import MODEL, Front, front, prediction
from tests.service.jobs.asking import create, waited
from tests.service.test_front import IMAGE, explain
from tests.tiny import unpack, write_tiny

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
MARK = "Zzyzx-Jane-Doe-1970"


class Kept:
    """Tracing into memory."""

    def __init__(self, ratio: float = 1.0, join: bool = False) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = Spans(SimpleSpanProcessor(self._exporter), ratio, join=join)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """By name; a name is there once."""
        spans = self._exporter.get_finished_spans()
        assert len({span.name for span in spans}) == len(spans)
        return {span.name: span for span in spans}


def timed(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """A worker that says when it did what: decoding for 1 ms, 1 ms after it began; computing for 2 ms after that."""
    response = prediction(request)
    began = time.time_ns() - 5_000_000
    response.image.handler.FromMilliseconds(4)
    response.image.decode.FromMilliseconds(1)
    response.image.compute.FromMilliseconds(2)
    for name, offset in {"handler": 0, "decode": 1_000_000, "compute": 2_000_000, "render": 4_000_000}.items():
        response.image.began[name] = began + offset
    return response


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def own(span: ReadableSpan) -> int:
    return span.get_span_context().span_id  # type: ignore[no-any-return]


async def call(kept: Kept, **metadata: str) -> dict[str, ReadableSpan]:
    async with front(traces=kept.tracing) as service:
        service.worker.answer = timed
        await service.stub.Explain(explain(), metadata=tuple(metadata.items()))
    return kept.spans


async def test_a_call_is_one_tree_through_service_and_worker() -> None:
    """The call, below it the admission and the round trip, in that the worker's own stages at their own times."""
    kept = Kept()
    async with front(traces=kept.tracing) as service:
        service.worker.answer = timed
        service.worker.gate.clear()
        call = asyncio.ensure_future(service.stub.Explain(explain()))
        while not service.worker.requests:
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.02)  # longer than the worker says it took
        service.worker.gate.set()
        await call
    spans = kept.spans
    root = spans["explain.v1.ExplanationService/Explain"]
    tree = {name: parent(span) for name, span in spans.items()}
    assert tree == {
        root.name: None,
        "admission": own(root),
        "worker": own(root),
        "handler": own(spans["worker"]),
        "decode": own(spans["handler"]),
        "compute": own(spans["handler"]),
    }
    assert len({span.get_span_context().trace_id for span in spans.values()}) == 1
    assert [root.kind, spans["worker"].kind] == [SpanKind.SERVER, SpanKind.CLIENT]
    handler, decode, compute = spans["handler"], spans["decode"], spans["compute"]
    assert decode.start_time - handler.start_time == 1_000_000
    assert (compute.start_time, compute.end_time) == (decode.end_time, decode.end_time + 2_000_000)
    for name, span in spans.items():
        outer = next((other for other in spans.values() if own(other) == parent(span)), span)
        assert outer.start_time <= span.start_time <= span.end_time <= outer.end_time, name


async def test_the_call_says_what_it_was_by_the_conventions() -> None:
    """rpc.* and the labels of the metrics; an answer is no error."""
    root = (await call(Kept()))["explain.v1.ExplanationService/Explain"]
    assert dict(root.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": "explain.v1.ExplanationService/Explain",
        "rpc.response.status_code": "OK",
        "whylight.model": MODEL,
        "whylight.method": "grad_cam",
    }
    assert root.status.status_code is StatusCode.UNSET
    assert root.resource.attributes["service.name"] == "whylight"


async def test_a_job_is_a_trace_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """It is nobody's call; its log line names the trace."""
    caplog.set_level(logging.INFO)
    kept = Kept()
    async with front(traces=kept.tracing) as service:
        service.worker.answer = timed
        await waited(service, (await create(service)).name)
    spans = kept.spans
    root = spans["ExplanationJob"]
    assert dict(root.attributes) == {"whylight.model": MODEL, "whylight.method": "grad_cam"}
    assert (root.kind, root.parent) == (SpanKind.INTERNAL, None)
    assert parent(spans["worker"]) == own(root)
    (line,) = [record.getMessage() for record in caplog.records if " ExplanationJob " in record.getMessage()]
    assert line.endswith(f"trace={root.get_span_context().trace_id:032x}")


async def test_a_job_that_fails_says_how() -> None:
    """With the status that a call would have had."""
    kept = Kept()
    async with front(traces=kept.tracing) as service:
        service.worker.error = RuntimeError("fault")
        await waited(service, (await create(service)).name)
    assert kept.spans["ExplanationJob"].attributes["error.type"] == "INTERNAL"
    assert kept.spans["ExplanationJob"].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (None, "INVALID_ARGUMENT", StatusCode.UNSET),
        (WorkerUnavailableError("gone"), "UNAVAILABLE", StatusCode.ERROR),
        (RuntimeError("fault"), "INTERNAL", StatusCode.ERROR),
    ],
)
async def test_a_failure_is_an_error_where_the_service_is_to_blame(
    error: Exception | None, code: str, status: StatusCode
) -> None:
    """A refused request is the client's affair; the round trip is in the trace also where it failed."""
    kept = Kept()
    async with front(traces=kept.tracing) as service:
        service.worker.error = error
        with pytest.raises(grpc.aio.AioRpcError):
            await service.stub.Explain(explain(top_k=None if error else 0))
    root = kept.spans["explain.v1.ExplanationService/Explain"]
    assert (root.attributes["rpc.response.status_code"], root.attributes["error.type"]) == (code, code)
    assert root.status.status_code is status
    assert root.status.description is None
    assert ("worker" in kept.spans) is (error is not None)


async def test_a_worker_with_another_clock_is_moved_into_its_round_trip() -> None:
    """An hour ahead: its stages are still where they belong, and as far from each other as they were."""
    kept = Kept()

    def ahead(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
        response = timed(request)
        for name in list(response.image.began):
            response.image.began[name] += 3600 * 10**9
        return response

    async with front(traces=kept.tracing) as service:
        service.worker.answer = ahead
        await service.stub.Explain(explain())
    spans = kept.spans
    there = spans["handler"].start_time - spans["worker"].start_time
    back = spans["worker"].end_time - spans["handler"].end_time
    assert abs(there - back) <= 1
    assert spans["decode"].start_time - spans["handler"].start_time == 1_000_000


@pytest.mark.parametrize("flag", ["00", "01"])
async def test_a_client_does_not_decide_what_is_traced(flag: str) -> None:
    """Its trace context is not looked at unless the setting says so."""
    root = (await call(Kept(), traceparent=f"00-{TRACE}-{SPAN}-{flag}"))["explain.v1.ExplanationService/Explain"]
    assert parent(root) is None
    assert f"{root.get_span_context().trace_id:032x}" != TRACE


async def test_a_trusted_client_s_trace_goes_on() -> None:
    """With `tracing_join` the call is a child of the client's span, and kept as the client keeps it."""
    kept = Kept(ratio=1e-9, join=True)
    spans = await call(kept, traceparent=f"00-{TRACE}-{SPAN}-01")
    assert {f"{span.get_span_context().trace_id:032x}" for span in spans.values()} == {TRACE}
    assert f"{parent(spans['explain.v1.ExplanationService/Explain']):016x}" == SPAN
    assert await call(Kept(ratio=1.0, join=True), traceparent=f"00-{TRACE}-{SPAN}-00") == {}


@pytest.mark.parametrize("value", ["", MARK, f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "0" * 5000])
async def test_a_trace_context_that_is_none_begins_a_new_trace(value: str) -> None:
    """Whatever a client sends there, the call is answered and traced."""
    spans = await call(Kept(join=True), traceparent=value)
    assert parent(spans["explain.v1.ExplanationService/Explain"]) is None


async def test_the_ratio_holds() -> None:
    """Of calls that are not chosen, nothing is kept; the log names a trace only where there is one."""
    assert await call(Kept(ratio=1e-9)) == {}


async def test_the_log_line_leads_to_the_trace(caplog: pytest.LogCaptureFixture) -> None:
    """By its id, so that no text of a client has to be in a trace."""
    with caplog.at_level(logging.INFO):
        spans = await call(Kept())
    trace = spans["explain.v1.ExplanationService/Explain"].get_span_context().trace_id
    assert f" trace={trace:032x}" in caplog.text


async def test_nothing_that_a_client_sent_is_in_a_span() -> None:
    """Neither in names nor in attributes: not its model, layer, label, request id, nor its image."""
    kept = Kept(join=True)
    sent = [
        explain(model=MARK),
        explain(image=MARK.encode()),
        explain(method={"grad_cam": {"layer": MARK}}),
        explain(targets={"classes": {"classes": [{"label": MARK}]}}),
    ]
    async with front(traces=kept.tracing) as service:
        service.worker.error = RuntimeError(MARK)
        for request in sent:
            with pytest.raises(grpc.aio.AioRpcError):
                await service.stub.Explain(request, metadata=(("x-request-id", MARK), ("tracestate", f"a={MARK}")))
    spans = kept._exporter.get_finished_spans()
    assert len(spans) >= len(sent)
    for span in spans:
        assert MARK not in span.to_json()
        assert not span.events


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """The real worker with a tiny network, in this process."""
    folder = tmp_path_factory.mktemp("tiny")
    model = load_model(unpack(write_tiny(folder), folder), torch.device("cpu"))
    assert isinstance(model.network, Network)
    return Worker(model, Limits())


async def test_a_collector_gets_the_tree_of_a_real_worker(worker: Worker) -> None:
    """From a client's call through the service to the handler's stages, over OTLP, as one trace."""

    def answer(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
        return worker_pb2.WorkResponse.FromString(worker.answer([request.SerializeToString()])[0])

    with collecting() as collector:
        async with tracing(settings(tracing_endpoint=collector.address)) as traces, front(traces=traces) as service:
            service.worker.answer = answer
            image = encode(photograph())
            output = api.OutputOptions(map_png=True)
            await service.stub.Explain(explain(image=image, output=output))
        spans = {span.name: span for span in collector.spans}
    assert collector.services == {"whylight"}
    assert set(spans) == {
        "explain.v1.ExplanationService/Explain", "admission", "worker", "handler", "decode", "compute", "quality",
        "render",
    }  # fmt: skip
    assert len({span.trace_id for span in spans.values()}) == 1
    names = {span.span_id: span.name for span in spans.values()}
    above = {name: names.get(span.parent_span_id) for name, span in spans.items()}
    assert above["worker"] == "explain.v1.ExplanationService/Explain"
    assert {name for name, outer in above.items() if outer == "handler"} == {"decode", "compute", "quality", "render"}
    stages = [spans[name] for name in ("decode", "compute", "quality", "render")]
    times = [time for span in stages for time in (span.start_time_unix_nano, span.end_time_unix_nano)]
    assert times == sorted(times)


async def test_a_collector_that_is_gone_costs_one_line_and_no_time(caplog: pytest.LogCaptureFixture) -> None:
    """Calls are answered; the end of the service waits for seconds at most; no address and no traceback is logged."""
    with collecting() as collector:
        address = collector.address
    began = time.monotonic()
    with caplog.at_level(logging.INFO):
        async with tracing(settings(tracing_endpoint=address)) as traces, front(traces=traces) as service:
            await predict(service)
    assert time.monotonic() - began < 15
    lines = [record.getMessage() for record in caplog.records if "traces" in record.getMessage()]
    assert lines == ["traces do not reach the collector: they are dropped"]
    assert address.removeprefix("http://") not in caplog.text
    assert "Traceback" not in caplog.text


async def predict(service: Front) -> None:
    await service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE))


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]


async def test_off_by_default() -> None:
    """Nothing is made, and no trace is named in the log."""
    async with tracing(settings()) as traces:
        assert isinstance(traces, NoTracing)


def test_the_service_does_not_need_opentelemetry() -> None:
    """Off, it is not even imported."""
    code = "import sys, service.server, service.cli; sys.exit(any('opentelemetry' in name for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_on_without_opentelemetry_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence for the operator instead of an ImportError."""
    monkeypatch.setitem(sys.modules, "service.spans", None)
    monkeypatch.delattr("service.spans", raising=False)
    with pytest.raises(TracingError, match="pip install"):
        async with tracing(settings(tracing_endpoint="http://127.0.0.1:1")):
            pass


async def test_an_unreadable_authority_is_named(tmp_path: Path) -> None:
    """By its setting, not by its path."""
    chosen = settings(tracing_endpoint="https://127.0.0.1:1", tracing_ca=tmp_path / "none.pem")
    with pytest.raises(TracingError, match="tracing_ca") as caught:
        async with tracing(chosen):
            pass
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("value", ["localhost:4317", "http://user:secret@host", "http://host/v1/traces", "grpc://host"])
def test_an_endpoint_is_a_url_without_path_and_secrets(value: str) -> None:
    """What gRPC would take for something else is refused at the start."""
    with pytest.raises(ValueError, match="tracing_endpoint"):
        settings(tracing_endpoint=value)
