"""From observations to OpenTelemetry's spans, and these to a collector.

The spans of a call are made when it has ended, out of the observation that its metrics and its reply are made of. The
worker's parts come with its answer: no exporter runs beside the networks, and a worker needs no way out.
"""

import logging
import threading
from collections.abc import Sequence

import grpc
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.observation import Interval, Observation

# Seconds: of one attempt to send, and of the last one when the service stops.
_SEND_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 5.0
# The statuses that are the server's fault, by OpenTelemetry's conventions. For all others the client is told why.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
_PARENT = TraceContextTextMapPropagator()

logger = logging.getLogger(__name__)


class Spans:
    """Makes a span of each call and of each of its intervals. They hold names and times, nothing that a client sent."""

    def __init__(self, processor: SpanProcessor, ratio: float, *, join: bool) -> None:
        """Prepare a provider of its own: no global state of OpenTelemetry is touched.

        Args:
            processor: takes the spans that have ended.
            ratio: share of the traces that are kept, 0 to 1.
            join: go on with the client's own trace, and keep it if the client keeps it; else every call is a new trace.
        """
        self._join = join
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource.create({SERVICE_NAME: "whylight"}),
            span_limits=SpanLimits(),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(processor)
        self._tracer: Tracer = provider.get_tracer("whylight")

    def finished(self, observation: Observation, outcome: str) -> str:
        """As `Tracing.finished`."""
        parent = Context()
        if self._join and observation.traceparent:
            parent = _PARENT.extract({"traceparent": observation.traceparent}, parent)
        kind = SpanKind.SERVER if observation.path else SpanKind.INTERNAL  # a job is nobody's call
        span = self._tracer.start_span(
            observation.path or observation.rpc,
            parent,
            kind,
            _attributes(observation, outcome),
            start_time=observation.began,
        )
        if not span.is_recording():
            return ""
        if outcome in _FAULTS:
            span.set_status(Status(StatusCode.ERROR))
        ended = observation.began + int(observation.elapsed * 1e9)
        for interval in observation.intervals:
            self._add(interval, span, ended)
        span.end(ended)
        return format_trace_id(span.get_span_context().trace_id)

    def _add(self, interval: Interval, outer: Span, now: int) -> None:
        kind = SpanKind.CLIENT if interval.name == "worker" else SpanKind.INTERNAL
        span = self._tracer.start_span(interval.name, set_span_in_context(outer), kind, start_time=interval.began)
        for inner in interval.inner:
            self._add(inner, span, now)
        span.end(interval.ended or now)


def _attributes(observation: Observation, outcome: str) -> dict[str, str]:
    """OpenTelemetry's conventions for RPC, and the labels of our metrics."""
    code = outcome if outcome in grpc.StatusCode.__members__ else grpc.StatusCode.RESOURCE_EXHAUSTED.name
    call = {"rpc.system.name": "grpc", "rpc.method": observation.path, "rpc.response.status_code": code}
    found = {
        **(call if observation.path else {}),
        "error.type": outcome if outcome != grpc.StatusCode.OK.name else "",
        "whylight.model": observation.model,
        "whylight.method": observation.method,
        "whylight.client": observation.caller.name,
    }
    return {name: value for name, value in found.items() if value}


class Delivery:
    """Sends spans in batches from a thread of its own. No call waits: what finds no room in its queue is dropped."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.processor = BatchSpanProcessor(_Logged(exporter))

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        # The processor waits as long as its exporter tries; an exporter that was shut down tries no more.
        limit = threading.Timer(_CLOSE_TIMEOUT, self._exporter.shutdown)
        limit.daemon = True
        limit.start()
        try:
            self.processor.shutdown()  # type: ignore[no-untyped-call]
        finally:
            limit.cancel()


def otlp_exporter(endpoint: str, authority: bytes | None) -> SpanExporter:
    """Sends to a collector by OTLP over gRPC.

    Args:
        endpoint: "http://host:port", or "https://host:port" for TLS.
        authority: PEM certificate to trust, or None for the well-known authorities.
    """
    # It logs every failure with the collector's own words; `_Logged` says once what is to be said.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    credentials = grpc.ssl_channel_credentials(authority) if endpoint.startswith("https:") else None
    return OTLPSpanExporter(endpoint, insecure=credentials is None, credentials=credentials, timeout=_SEND_TIMEOUT)


class _Logged(SpanExporter):
    """Says once that spans do not arrive, and once that they do again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._arrives = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send."""
        result = self._exporter.export(spans)
        arrives = result is SpanExportResult.SUCCESS
        if arrives is not self._arrives:
            self._arrives = arrives
            if arrives:
                logger.info("traces reach the collector again")
            else:
                logger.warning("traces do not reach the collector: they are dropped")
        return result

    def shutdown(self) -> None:
        """End the connection."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back here."""
        return True
