"""The values of a saliency map, between their data types."""

import sys
from array import array

from protos.explain.v1 import types_pb2

# Data type to the typecode of `array`, and the code that stands for the largest value.
_INTEGERS = {types_pb2.DATA_TYPE_UINT8: ("B", 255), types_pb2.DATA_TYPE_UINT16: ("H", 65535)}


def quantise(saliency: types_pb2.SaliencyMap, data_type: types_pb2.DataType) -> None:
    """Round the values of a map in place, to DATA_TYPE_UINT8 or DATA_TYPE_UINT16.

    Raises:
        ValueError: the map has other values than finite ones of DATA_TYPE_FLOAT32 within its range.
    """
    if saliency.values.data_type != types_pb2.DATA_TYPE_FLOAT32:
        raise ValueError("only a map of float32 can be rounded")
    typecode, largest = _INTEGERS[data_type]
    low, span = saliency.minimum, saliency.maximum - saliency.minimum
    scale = largest / span if span > 0 else 0.0
    shift = 0.5 - low * scale  # rounds to the nearest
    values = _read("f", saliency.values.data)
    try:
        codes: array[float] = array(typecode, [int(value * scale + shift) for value in values])
    except (OverflowError, ValueError):
        raise ValueError("a value of the map is not within its range") from None
    saliency.values.data_type = data_type
    saliency.values.data = _little_endian(codes).tobytes()


def map_values(saliency: types_pb2.SaliencyMap) -> "array[float]":
    """The values of a map of any data type, row by row.

    Raises:
        ValueError: the data type is unknown.
    """
    data_type = saliency.values.data_type
    if data_type == types_pb2.DATA_TYPE_FLOAT32:
        return _read("f", saliency.values.data)
    if data_type not in _INTEGERS:
        raise ValueError("the map has an unknown data type; is the service newer than this client?")
    typecode, largest = _INTEGERS[data_type]
    step = (saliency.maximum - saliency.minimum) / largest
    return array("f", [saliency.minimum + code * step for code in _read(typecode, saliency.values.data)])


def _read(typecode: str, data: bytes) -> "array[float]":
    values: array[float] = array(typecode)
    values.frombytes(data)
    return _little_endian(values)


def _little_endian(values: "array[float]") -> "array[float]":
    """Between this machine's order of bytes and the wire's: the same in both directions."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
