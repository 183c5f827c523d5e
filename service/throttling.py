"""Refuses calls unread while most of what their connection asks for finds no room.

To refuse a request for want of room costs the service about as much as to answer a small one: it is read, parsed,
checked and logged. A flood of them would wait at gRPC's door, where nobody refuses anything, and gRPC drops what it
cannot hold. So a connection whose calls are mostly refused has a share of them refused before they are read: "adaptive
throttling" (Beyer et al., Site Reliability Engineering, 2016, chapter 21), done by the server. Nothing is cheaper: no
request id, no log line, one answer that is made once.
"""

import logging
import math
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc

from service.errors import InvalidRequestError, NoRoomError
from service.rpc_types import Context, Handler, shape_of
from service.status_details import to_abort

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
_LOG_INTERVAL = 1.0  # seconds between two lines in the log, while calls are refused

_NO_ROOM = grpc.StatusCode.RESOURCE_EXHAUSTED
_REFUSAL = to_abort(NoRoomError("most of this connection's requests found no room just now", reason="THROTTLED"))
_NO_REQUEST = to_abort(InvalidRequestError("the call has no request", ()))

Key = tuple[str, str]
Behaviour = Callable[[Any, Context], Awaitable[Any]]

logger = logging.getLogger(__name__)


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
        clock: gives seconds.
        draw: gives numbers in [0, 1).
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._known: OrderedDict[Key, _Recent] = OrderedDict()

    def refuses(self, connection: str, procedure: str) -> bool:
        """Whether a call is one of those that are refused unread. One that is let in counts as welcome."""
        recent = self._recent((connection, procedure))
        excess = recent.calls - GENEROSITY * recent.welcome - UNTROUBLED
        recent.calls += 1
        if self._draw() < excess / recent.calls:
            return True
        recent.welcome += 1
        return False

    def no_room(self, connection: str, procedure: str) -> None:
        """Take note that a call that was let in has found no room."""
        recent = self._recent((connection, procedure))
        recent.welcome = max(0.0, recent.welcome - 1)

    def _recent(self, key: Key) -> _Recent:
        now = self._clock()
        recent = self._known.pop(key, None) or _Recent(0.0, 0.0, now)
        self._known[key] = recent  # at the end: the first is the one that was silent for longest
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        recent.age(now)
        return recent


class ThrottleInterceptor(grpc.aio.ServerInterceptor):
    """Reads the request of a call only when the throttle lets it in. The outermost interceptor.

    gRPC reads the one request of a call before it asks its handler, but not the first of a stream of requests. So the
    handlers here are of the latter kind; on the wire there is no difference.
    """

    def __init__(self, throttle: Throttle, refused: Callable[[str], object]) -> None:
        """Ask `throttle`, and tell `refused` the procedure of each call that is refused unread."""
        self._throttle = throttle
        self._refused = refused
        self._handlers: dict[str, Handler] = {}  # what all interceptors make of a procedure is the same for every call
        self._unlogged = 0
        self._logged = -math.inf

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of what asks for work."""
        path = handler_call_details.method
        if path in self._handlers:
            return self._handlers[path]
        handler = await continuation(handler_call_details)
        if handler is None:  # not kept: a client can name as many procedures as it likes
            return None
        self._handlers[path] = made = self._throttled(handler, path) if path in THROTTLED else handler
        return made

    def _throttled(self, handler: "grpc.RpcMethodHandler[Any, Any]", path: str) -> Handler:
        shape, _ = shape_of(handler)
        streaming = handler.response_streaming
        make = grpc.stream_stream_rpc_method_handler if streaming else grpc.stream_unary_rpc_method_handler
        codecs = (handler.request_deserializer, handler.response_serializer)
        return cast(Handler, make(self._wrap(getattr(handler, shape), path), *codecs))

    def _wrap(self, behaviour: Behaviour, path: str) -> Any:
        async def throttled(requests: AsyncIterator[Any], context: Context) -> Any:
            connection = context.peer()
            if self._throttle.refuses(connection, path):
                self._note(path)
                await context.abort(*_REFUSAL)
            request = await anext(requests, None)
            if request is None:
                await context.abort(*_NO_REQUEST)
            try:
                return await behaviour(request, context)
            except grpc.aio.AbortError:
                if context.code() in (_NO_ROOM, _NO_ROOM.value[0]):
                    self._throttle.no_room(connection, path)
                raise

        return throttled

    def _note(self, path: str) -> None:
        self._refused(path)
        self._unlogged += 1
        now = time.monotonic()
        if now - self._logged >= _LOG_INTERVAL:
            logger.warning("%d calls refused unread: most of their connections' calls find no room", self._unlogged)
            self._unlogged, self._logged = 0, now
