"""The end of the service: what was accepted is answered, what comes now is refused with a reason."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import grpc

from service.errors import DrainingError
from service.identity.permissions import PERMISSIONS
from service.rpc_types import Context, Handler

_CUT_OFF_TIME = 1.0  # seconds for calls that are out of time to be told so
# gRPC drops what waits at its door when it stops. So it is stopped in a moment in which no call comes.
_QUIET_MOMENT = 0.01  # seconds
_QUIET_LOOKS = 50


class Drain:
    """Knows which calls were accepted and are not answered yet.

    gRPC's own way to stop refuses new calls without saying why, and waits for whoever watches the health.
    """

    def __init__(self) -> None:
        self._accepted: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._begun = False
        self._over = False
        self._last_refusal = 0.0

    @property
    def unanswered(self) -> int:
        """How many calls were accepted and are not answered yet."""
        return len(self._accepted)

    @contextlib.contextmanager
    def accepted(self) -> Iterator[None]:
        """The work on one call, in the task that answers it.

        Raises:
            DrainingError: the service is shutting down, or had to end before the work did.
        """
        if self._begun:
            self._last_refusal = time.monotonic()
            raise DrainingError("the service is shutting down")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._accepted.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._over:
                raise
            task.uncancel()
            raise DrainingError("the service had to stop before the answer was there") from None
        finally:
            self._accepted.discard(task)
            self._changed.set()

    @property
    def begun(self) -> bool:
        """Whether new calls are refused."""
        return self._begun

    async def finish(self, timeout: float) -> int:
        """Refuse new calls, and wait until the accepted ones are answered.

        Args:
            timeout: seconds after which those that are left are ended with a DrainingError.

        Returns:
            How many were ended.
        """
        self._begun = True
        late: list[asyncio.Task[Any]] = []
        if not await self._all_answered(timeout):
            self._over = True
            late = list(self._accepted)
            for task in late:
                task.cancel()
            await self._all_answered(_CUT_OFF_TIME)
        await self._quiet()
        return len(late)

    async def _all_answered(self, timeout: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._accepted:
                    self._changed.clear()
                    await self._changed.wait()
        return not self._accepted

    async def _quiet(self) -> None:
        """Wait for a moment without a new call, for some time at most."""
        for _ in range(_QUIET_LOOKS):
            if time.monotonic() - self._last_refusal > _QUIET_MOMENT:
                return
            await asyncio.sleep(_QUIET_MOMENT)


class DrainInterceptor(grpc.aio.ServerInterceptor):
    """Tells `drain` of every call that answers one request, but for those of health: they are answered to the end."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler_call_details.method not in PERMISSIONS:
            return handler
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming:
            if not inspect.isasyncgenfunction(handler.unary_stream):
                return handler
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream), *codecs)
        return grpc.unary_unary_rpc_method_handler(self._unary(cast(Any, handler.unary_unary)), *codecs)

    def _unary(self, behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def counted(request: Any, context: Context) -> Any:
            with self._drain.accepted():
                return await behaviour(request, context)

        return counted

    def _stream(self, behaviour: Callable[[Any, Context], AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def counted(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._drain.accepted():
                async with contextlib.aclosing(cast(Any, behaviour(request, context))) as responses:
                    async for response in responses:
                        yield response

        return counted
