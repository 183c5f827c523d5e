"""At every call's door: who calls, whether they may, and how precisely they are answered."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc

from service.errors import STATUS_CODES, ServiceError
from service.identity.caller import Caller
from service.identity.gate import Gate
from service.identity.permissions import OPEN, is_known
from service.identity.precision import check_request, reduce
from service.observation import observed
from service.status_details import trailing_metadata

OURS = "/explain.v1."
_LARGE_ANSWER = 64 * 1024  # bytes: from here on, rounding would make other calls wait

# Quoted: only the type stubs know these as generic.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Behaviour: TypeAlias = "Callable[[Any, Context], Any]"

# By (requests are a stream, responses are a stream): the handler's attribute, and what makes such a handler.
_SHAPES: dict[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class IdentityInterceptor(grpc.aio.ServerInterceptor):
    """Asks the gate before every procedure that is not open, of whatever service and shape.

    A procedure that the table of permissions does not know is UNIMPLEMENTED, also where identity is off.
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
        if handler is None or path in OPEN:
            return handler
        shape, make = _SHAPES[handler.request_streaming, handler.response_streaming]
        behaviour = cast(Behaviour, getattr(handler, shape))
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        return cast(
            Handler,
            make(
                wrap(behaviour, path),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            ),
        )

    def _wrap_unary(self, behaviour: Behaviour, path: str) -> Behaviour:
        async def guarded(request: Any, context: Context) -> Any:
            caller = await self._admit(request, context, path)
            return await _answer(await behaviour(request, context), caller, path)

        return guarded

    def _wrap_stream(self, behaviour: Behaviour, path: str) -> Behaviour:
        if not inspect.isasyncgenfunction(behaviour):
            raise TypeError("only a stream that is an async generator can be guarded")

        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            caller = await self._admit(request, context, path)
            async for response in behaviour(request, context):
                yield await _answer(response, caller, path)

        return guarded

    async def _admit(self, request: Any, context: Context, path: str) -> Caller:
        """The caller, where they may call this with that request; else the call ends here."""
        observation = observed()
        try:
            caller = self._gate.identify(_authorization(context), _certificate_names(context))
            if observation is not None:
                observation.caller = caller
            self._gate.check(caller, path)
            if path.startswith(OURS):
                check_request(request, caller.precision)
            return caller
        except ServiceError as error:
            if observation is None:  # reflection, for example: nobody else makes a status of it
                await context.abort(STATUS_CODES[type(error)], error.message, trailing_metadata(error))
            raise


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
