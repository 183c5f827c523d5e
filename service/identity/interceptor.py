"""At every call's door: who calls, whether they may, and how precisely they are answered."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from service.errors import InternalError, InvalidRequestError, ServiceError
from service.identity.caller import NOBODY, Caller
from service.identity.envelope import check_envelope
from service.identity.gate import Gate
from service.identity.permissions import OPEN, is_known
from service.identity.precision import check_request, reduce
from service.observation import observed
from service.rpc_types import Context, Handler, shape_of
from service.status_details import to_abort

# Prefixes of what is observed, and answered at a precision.
OURS = ("/explain.v1.", "/google.longrunning.", "/inference.")
_LARGE_ANSWER = 64 * 1024  # bytes: from here on, rounding would make other calls wait

logger = logging.getLogger(__name__)

Behaviour: TypeAlias = "Callable[[Any, Context], Any]"
Parse: TypeAlias = "Callable[[bytes], Any]"
# From what came over the wire to the request and the caller.
Enter: TypeAlias = "Callable[[Any, Context], Awaitable[tuple[Any, Caller]]]"


class IdentityInterceptor(grpc.aio.ServerInterceptor):
    """Asks the gate before every procedure that is not open, of whatever service and shape.

    A request is parsed only after that, and bytes that are no message are INVALID_ARGUMENT; gRPC would parse before,
    and log a traceback. A procedure that the table of permissions does not know is UNIMPLEMENTED, also where identity
    is off.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler."""
        path = handler_call_details.method
        handler = await continuation(handler_call_details) if is_known(path) else None
        if handler is None:
            return None
        shape, make = shape_of(handler)
        behaviour = cast(Behaviour, getattr(handler, shape))
        enter = self._enter(path, cast(Parse, handler.request_deserializer), handler.request_streaming)
        if inspect.isasyncgenfunction(behaviour):
            guarded = _guard_stream(behaviour, path, enter)
        elif handler.response_streaming and path.startswith(OURS):
            raise TypeError("a stream of ours must be an async generator: what it writes cannot be rounded otherwise")
        else:
            guarded = _guard(behaviour, path, enter)
        return cast(Handler, make(guarded, response_serializer=handler.response_serializer))

    def _enter(self, path: str, parse: Parse, streams: bool) -> Enter:
        async def enter(raw: Any, context: Context) -> tuple[Any, Caller]:
            caller = NOBODY if path in OPEN else self._admit(context, path)
            if streams:
                return _parse_each(raw, parse, caller), caller
            return _parse(raw, parse, caller), caller

        return enter

    def _admit(self, context: Context, path: str) -> Caller:
        """The caller, where they may call this."""
        caller = self._gate.identify(_authorization(context), _certificate_names(context))
        observation = observed()
        if observation is not None:
            observation.caller = caller
        self._gate.check(caller, path)
        return caller


def _guard(behaviour: Behaviour, path: str, enter: Enter) -> Behaviour:
    async def guarded(raw: Any, context: Context) -> Any:
        async with _statuses(context, path):
            request, caller = await enter(raw, context)
            return await _answer(await behaviour(request, context), caller, path)

    return guarded


def _guard_stream(behaviour: Behaviour, path: str, enter: Enter) -> Behaviour:
    async def guarded(raw: Any, context: Context) -> AsyncIterator[Any]:
        async with _statuses(context, path):
            request, caller = await enter(raw, context)
            async with contextlib.aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield await _answer(response, caller, path)

    return guarded


@contextlib.asynccontextmanager
async def _statuses(context: Context, path: str) -> AsyncIterator[None]:
    """Make statuses of errors where no observer around this does: in health and reflection."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        if observed() is not None:
            raise
        known = error if isinstance(error, ServiceError) else InternalError("internal error")
        if known is not error:
            logger.error("%s failed: %s", path, type(error).__name__)
        await context.abort(*to_abort(known))


def _parse(raw: bytes, parse: Parse, caller: Caller) -> Any:
    """The request, where the caller's precision allows it."""
    kind = getattr(getattr(parse, "__self__", None), "DESCRIPTOR", None)
    if kind is not None:
        check_envelope(raw, kind)
    try:
        request = parse(raw)
    except DecodeError:
        raise InvalidRequestError("the request is no message of this procedure", ()) from None
    check_request(request, caller.precision)
    return request


async def _parse_each(raw: AsyncIterator[bytes], parse: Parse, caller: Caller) -> AsyncIterator[Any]:
    async for each in raw:
        yield _parse(each, parse, caller)


async def _answer(response: Any, caller: Caller, path: str) -> Any:
    if not path.startswith(OURS):
        return response
    if response.ByteSize() > _LARGE_ANSWER:
        await asyncio.to_thread(reduce, response, caller.precision)
    else:
        reduce(response, caller.precision)
    return response


def _authorization(context: Context) -> list[str]:
    return [
        value if isinstance(value, str) else ""
        for key, value in context.invocation_metadata() or ()
        if key == "authorization"
    ]


def _certificate_names(context: Context) -> list[str]:
    """The subject alternative names of the client's certificate, else its common name; none without a certificate."""
    return [name.decode("utf-8", "replace") for name in context.peer_identities() or ()]
