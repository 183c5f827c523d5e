"""Requests that are small to send and meant to be large to read."""

from collections.abc import Callable, Mapping

import grpc

from protos.explain.v1 import explanation_service_pb2 as api
from tests.service.fakes import MODEL

MEBIBYTE = 2**20
_VARINT_STOP = 0x80


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, as it goes over the wire."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= _VARINT_STOP:
        encoded.append(number & 0x7F | _VARINT_STOP)
        number >>= 7
    return bytes([*encoded, number])


def request(*fields: bytes) -> bytes:
    """An ExplainRequest with more fields than it should have."""
    return api.ExplainRequest(model=MODEL, image=b"x").SerializeToString() + b"".join(fields)


def many_targets(count: int) -> bytes:
    """So many references to classes, two bytes each."""
    return request(field(4, field(2, field(1, b"") * count)))


def many_metrics(count: int) -> bytes:
    """So many metrics, two bytes each."""
    return request(field(8, field(1, b"") * count))


def many_unknown_fields(count: int) -> bytes:
    """Fields that nobody knows."""
    return request(field(500, b"") * count)


def nested_struct(levels: int) -> bytes:
    """A Struct in a Struct in a Struct as parameter of a metric."""
    value = b""
    for _ in range(levels):
        value = field(5, field(1, field(1, b"a") + field(2, value)))  # Value.struct_value, Struct.fields, key and value
    return request(field(8, field(1, field(1, b"insertion") + field(2, field(1, field(1, b"a") + field(2, value))))))


# By name: how it is made, how it is compressed, and what it is answered with.
MESSAGES: Mapping[str, tuple[Callable[[], bytes], grpc.Compression, str]] = {
    "gzip, 512 MiB": (
        lambda: request(field(3, bytes(512 * MEBIBYTE))), grpc.Compression.Gzip, "RESOURCE_EXHAUSTED",
    ),
    "gzip, 30 MiB": (lambda: request(field(3, bytes(30 * MEBIBYTE))), grpc.Compression.Gzip, "INVALID_ARGUMENT"),
    "deflate, 512 MiB": (
        lambda: field(3, bytes(512 * MEBIBYTE)), grpc.Compression.Deflate, "RESOURCE_EXHAUSTED",
    ),
    "not compressed, 64 MiB": (
        lambda: field(3, bytes(64 * MEBIBYTE)), grpc.Compression.NoCompression, "RESOURCE_EXHAUSTED",
    ),
    "1,000,000 targets": (lambda: many_targets(1_000_000), grpc.Compression.NoCompression, "INVALID_ARGUMENT"),
    "15,000,000 targets": (lambda: many_targets(15_000_000), grpc.Compression.NoCompression, "INVALID_ARGUMENT"),
    "15,000,000 metrics": (lambda: many_metrics(15_000_000), grpc.Compression.NoCompression, "INVALID_ARGUMENT"),
    "8,000,000 unknown fields": (
        lambda: many_unknown_fields(8_000_000), grpc.Compression.NoCompression, "INVALID_ARGUMENT",
    ),
    "a Struct of 10,000 levels": (lambda: nested_struct(10_000), grpc.Compression.NoCompression, "INVALID_ARGUMENT"),
}  # fmt: skip


def ask(address: str, body: bytes, compression: grpc.Compression) -> str:
    """Send it; the status."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options, compression) as channel:
        try:
            channel.unary_unary("/explain.v1.ExplanationService/Explain")(body, timeout=120)
        except grpc.RpcError as error:
            return str(error.code().name)  # type: ignore[attr-defined]
    return "OK"
