"""What gRPC's own types are called here, and how a handler's shape is told."""

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

# Quoted: only the type stubs know these as generic.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"

# By (requests are a stream, responses are a stream).
_SHAPES: dict[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def shape_of(handler: "grpc.RpcMethodHandler[Any, Any]") -> tuple[str, Callable[..., Any]]:
    """The name of a handler's attribute that answers, and what makes such a handler."""
    return _SHAPES[handler.request_streaming, handler.response_streaming]
