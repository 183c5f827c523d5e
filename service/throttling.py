"""Refuses calls unread while most of what their connection asks for finds no room.

To refuse a request for want of room costs the service about as much as to answer a small one: it is read, parsed and
checked first. A flood of them would wait at gRPC's door, where nobody refuses anything, and gRPC drops what it cannot
hold. So a connection whose calls are mostly refused has a share of them refused before they are read: "adaptive
throttling" (Beyer et al., Site Reliability Engineering, 2016, chapter 21), done by the server.
"""

import contextlib
import math
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import grpc

from service.errors import InvalidRequestError, NoRoomError, QuotaError
from service.rpc_types import Context, Handler

# The calls that ask for work.
THROTTLED = frozenset(
    (
        *(
            f"/explain.v1.ExplanationService/{name}"
            for name in ("Predict", "Explain", "StreamExplain", "CreateExplanationJob")
        ),
        "/inference.GRPCInferenceService/ModelInfer",
    )
)
MEMORY = 2.0  # seconds after which a call counts for 1/e of what it did
GENEROSITY = 2.0  # how many calls are let in for each that finds room: so it is seen at once when there is room again
UNTROUBLED = 8.0  # calls that may find no room before any is refused unread: a handful of them costs nothing
_MOST = 4096  # connections and procedures that are remembered

Key = tuple[str, str]


@dataclass
class _Recent:
    """Calls of late, each counting less as time goes by.

    Attributes:
        calls: all of them.
        welcome: those that found room, or are still waiting to know.
        at: the time of these numbers.
    """

    calls: float
    welcome: float
    at: float

    def age(self, now: float) -> None:
        """Count them as of now."""
        share = math.exp((self.at - now) / MEMORY)
        self.calls, self.welcome, self.at = self.calls * share, self.welcome * share, now


class Throttle:
    """Decides which calls are refused unread, by connection and procedure.

    Args:
        refused: is told the procedure of each call that is refused unread.
        clock: gives seconds.
        draw: gives numbers in [0, 1).
    """

    def __init__(
        self,
        refused: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._refused = refused
        self._clock = clock
        self._draw = draw
        self._known: OrderedDict[Key, _Recent] = OrderedDict()

    @contextlib.contextmanager
    def admitted(self, connection: str, procedure: str) -> Iterator[None]:
        """The time in which a call is answered, or finds no room.

        Raises:
            NoRoomError: it is one of those that are refused unread.
        """
        recent = self._recent((connection, procedure))
        excess = recent.calls - GENEROSITY * recent.welcome - UNTROUBLED
        recent.calls += 1
        if self._draw() < excess / recent.calls:
            self._refused(procedure)
            raise NoRoomError("most of this connection's requests found no room just now", reason="THROTTLED")
        recent.welcome += 1
        try:
            yield
        except (NoRoomError, QuotaError):
            recent.welcome = max(0.0, recent.welcome - 1)
            raise

    def _recent(self, key: Key) -> _Recent:
        now = self._clock()
        recent = self._known.pop(key, None) or _Recent(0.0, 0.0, now)
        self._known[key] = recent  # at the end: the first is the one that was silent for longest
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        recent.age(now)
        return recent


class ThrottleInterceptor(grpc.aio.ServerInterceptor):
    """Reads the request of a call only when the throttle lets it in.

    gRPC reads the one request of a call before it asks its handler, but not the first of a stream of requests. So the
    handlers here are of the latter kind; on the wire there is no difference.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of what asks for work."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or path not in THROTTLED:
            return handler
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(cast(Any, handler.unary_stream), path), *codecs)
        return grpc.stream_unary_rpc_method_handler(self._unary(cast(Any, handler.unary_unary), path), *codecs)

    def _unary(self, behaviour: Callable[[Any, Context], Awaitable[Any]], path: str) -> Any:
        async def throttled(requests: AsyncIterator[Any], context: Context) -> Any:
            with self._throttle.admitted(context.peer(), path):
                return await behaviour(await _first(requests), context)

        return throttled

    def _stream(self, behaviour: Callable[[Any, Context], AsyncIterator[Any]], path: str) -> Any:
        async def throttled(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            with self._throttle.admitted(context.peer(), path):
                async with contextlib.aclosing(cast(Any, behaviour(await _first(requests), context))) as responses:
                    async for response in responses:
                        yield response

        return throttled


async def _first(requests: AsyncIterator[Any]) -> Any:
    """The one request of a call.

    Raises:
        InvalidRequestError: the client ended the call without one.
    """
    async for request in requests:
        return request
    raise InvalidRequestError("the call has no request", ())
