"""Values of parameters as google.protobuf.Struct holds them."""

import math

from google.protobuf import struct_pb2


def to_struct_value(value: bool | int | float | str) -> struct_pb2.Value:
    """The value of a Struct. Text that reads as true, false or a finite number is that."""
    if isinstance(value, str):
        value = _read(value)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    return struct_pb2.Value(number_value=value)


def _read(text: str) -> bool | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
