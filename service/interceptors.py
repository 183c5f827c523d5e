"""Around every call: a request id, one observation, and errors that say what they should and no more."""

import asyncio
import contextlib
import logging
import re
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc

from service.errors import InternalError, QuotaError, ServiceError
from service.identity.interceptor import OURS
from service.metrics import Metrics
from service.observation import Observation, observing
from service.rpc_types import Context, Handler, shape_of
from service.status_details import to_abort
from service.tracing import NoTracing, Tracing

REQUEST_ID_KEY = "x-request-id"
TRACEPARENT_KEY = "traceparent"  # W3C Trace Context
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger = logging.getLogger(__name__)

Unary: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Observes every call of our own services, also those that answer with a stream, and turns errors into statuses."""

    def __init__(self, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._metrics = metrics
        self._tracing = tracing or NoTracing()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler; health and reflection pass untouched."""
        path = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or not path.startswith(OURS):
            return handler
        shape, make = shape_of(handler)
        wrap = self._wrap_stream if handler.response_streaming else self._wrap
        codecs = (handler.request_deserializer, handler.response_serializer)
        return cast(Handler, make(wrap(getattr(handler, shape), path), *codecs))

    def _wrap(self, behaviour: Unary, path: str) -> Unary:
        async def observed(request: Any, context: Context) -> Any:
            async with self._observed(context, path) as headers:
                response = await behaviour(request, context)
                await context.send_initial_metadata(headers)
                return response

        return observed

    def _wrap_stream(self, behaviour: Any, path: str) -> Unary:
        # It writes, rather than being a generator itself: gRPC would leave a generator where it is when a client goes
        # away, and the work behind it would go on until somebody collects the garbage.
        async def observed(request: Any, context: Context) -> None:
            async with (
                self._observed(context, path) as headers,
                contextlib.aclosing(behaviour(request, context)) as responses,
            ):
                async for response in responses:
                    if headers:
                        await context.send_initial_metadata(headers)
                        headers = ()
                    await context.write(response)

        return observed

    @contextlib.asynccontextmanager
    async def _observed(self, context: Context, path: str) -> AsyncIterator[tuple[tuple[str, str], ...]]:
        """Observe a call for the length of a block, and turn its errors into statuses.

        Gives the metadata to send before an answer, and not earlier: after them gRPC does not try a call again.
        """
        observation = _observe(context, path)
        headers = ((REQUEST_ID_KEY, observation.request_id),)
        try:
            with observing(observation):
                yield headers
        except asyncio.CancelledError:
            self._finish(observation, grpc.StatusCode.CANCELLED.name)
            raise
        except Exception as error:
            known = error if isinstance(error, ServiceError) else log_fault(error, observation.request_id)
            code, message, trailing = to_abort(known)
            # A client with its quota used up is no want of room, which the same status says otherwise. Counted
            # before the answer goes: who has it may look at the metrics.
            self._finish(observation, known.reason if isinstance(known, QuotaError) else code.name)
            await context.abort(code, message, (*headers, *trailing))
        else:
            self._finish(observation, grpc.StatusCode.OK.name)

    def _finish(self, observation: Observation, outcome: str) -> None:
        for each in observation.parts or [observation]:
            self._metrics.finished(each, outcome)
        trace = self._tracing.finished(observation, outcome)
        logger.info(
            "%s %s client=%s model=%s method=%s code=%s seconds=%.4f%s",
            observation.request_id, observation.rpc, observation.caller.name, observation.model, observation.method,
            outcome, observation.elapsed, f" trace={trace}" if trace else "",
        )  # fmt: skip


def _observe(context: Context, path: str) -> Observation:
    """The observation of a call that begins."""
    parents = [value for key, value in context.invocation_metadata() or () if key == TRACEPARENT_KEY]
    return Observation(
        _request_id(context),
        path.rpartition("/")[2],
        path=path.removeprefix("/"),
        traceparent=parents[0] if len(parents) == 1 and isinstance(parents[0], str) else "",
    )


def _request_id(context: Context) -> str:
    """The client's own id when it is a harmless one, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex


def log_fault(error: BaseException, request_id: str) -> InternalError:
    """Log where a fault of ours happened (its text may hold a user's data) and give the client only the id."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-4:])
    place = " < ".join([type(error).__name__, *(f"{frame.name}:{frame.lineno}" for frame in frames)])
    logger.error("%s failed: %s", request_id, place)
    return InternalError(f"internal error, request {request_id}")
