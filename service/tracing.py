"""Traces of the calls, where the settings name a collector for them: off by default, and then nothing is made."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from service.observation import Observation
from service.settings import Settings


class TracingError(Exception):
    """Traces cannot be sent. The message is for the person who started the service."""


class Tracing(Protocol):
    """Whatever becomes of a call that has ended."""

    def finished(self, observation: Observation, outcome: str) -> str:
        """Make the spans of a call, whose metrics have `outcome`; returns its trace id, or "" where nothing is kept."""
        ...


class NoTracing:
    """Traces nothing."""

    def finished(self, observation: Observation, outcome: str) -> str:
        """As `Tracing.finished`."""
        return ""


@contextlib.asynccontextmanager
async def tracing(settings: Settings) -> AsyncIterator[Tracing]:
    """What traces calls for the length of a block; at its end the last spans are sent, for a few seconds at most.

    Raises:
        TracingError: OpenTelemetry is not installed, or the authority's certificate cannot be read.
    """
    if settings.tracing_endpoint is None:
        yield NoTracing()
        return
    try:
        from service import spans  # only here: the service works without OpenTelemetry
    except ImportError:
        raise TracingError("tracing_endpoint needs OpenTelemetry: pip install 'whylight[tracing]'") from None
    try:
        authority = settings.tracing_ca.read_bytes() if settings.tracing_ca is not None else None
    except OSError as error:
        raise TracingError(f"tracing_ca cannot be read: {error.strerror}") from None
    delivery = spans.Delivery(spans.otlp_exporter(settings.tracing_endpoint, authority))
    try:
        yield spans.Spans(delivery.processor, settings.tracing_ratio, join=settings.tracing_join)
    finally:
        await asyncio.to_thread(delivery.close)
