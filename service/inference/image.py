"""The input tensor of a request as one encoded image."""

import math
import struct

from protos.inference import inference_service_pb2 as oip
from service.errors import InvalidRequestError, Violation
from service.inference.png import encode_png
from service.inference.refusals import refuse, shown

NAME = "image"
MAX_SIDE = 16_384  # of pixels that come as they are
_LENGTH_BYTES = 4
# KServe's client says with every input how many raw bytes it has.
_HARMLESS = frozenset({"binary_data_size"})


def to_image(request: oip.ModelInferRequest, max_bytes: int) -> bytes:
    """The one image of a request, encoded.

    Raises:
        InvalidRequestError: there is not exactly one tensor, named "image", that holds exactly one image of at most
            `max_bytes` bytes.
    """
    if len(request.inputs) != 1:
        raise _wrong("inputs", f"must be one tensor, named {NAME}")
    tensor = request.inputs[0]
    if tensor.name != NAME:
        raise _wrong("inputs[0].name", f"must be {NAME}")
    for name in tensor.parameters:
        if name not in _HARMLESS:
            raise _wrong(
                f"inputs[0].parameters.{shown(name)}", "is no parameter of an input; there is no shared memory"
            )
    if len(request.raw_input_contents) > 1 or (request.raw_input_contents and tensor.HasField("contents")):
        raise _wrong("raw_input_contents", "must hold the one input, which then has no contents")
    if tensor.datatype == "BYTES":
        return _encoded(request)
    if tensor.datatype == "UINT8":
        return _pixels(request, max_bytes)
    raise _wrong("inputs[0].datatype", "must be BYTES (an encoded image) or UINT8 (pixels)")


def _encoded(request: oip.ModelInferRequest) -> bytes:
    """The one element of a tensor of BYTES."""
    tensor = request.inputs[0]
    if math.prod(tensor.shape) != 1:
        raise _wrong("inputs[0].shape", "must be [1] or [1, 1]: a request has one image; send several at the same time")
    if not request.raw_input_contents:
        if len(tensor.contents.bytes_contents) != 1:
            raise _wrong("inputs[0].contents", "must have one element in bytes_contents")
        return tensor.contents.bytes_contents[0]
    raw = request.raw_input_contents[0]
    if len(raw) < _LENGTH_BYTES or struct.unpack_from("<I", raw)[0] != len(raw) - _LENGTH_BYTES:
        raise _wrong("raw_input_contents[0]", "must be one element behind its length in 4 bytes, little endian")
    return raw[_LENGTH_BYTES:]


def _pixels(request: oip.ModelInferRequest, max_bytes: int) -> bytes:
    """A tensor of pixels as a PNG."""
    shape = list(request.inputs[0].shape)
    if len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or shape[2] != 3:
        raise _wrong("inputs[0].shape", "must be [height, width, 3] or [1, height, width, 3]: a request has one image")
    height, width, _ = shape
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise _wrong("inputs[0].shape", f"must have 1 to {MAX_SIDE} rows and columns")
    if height * width * 3 > max_bytes:
        raise _wrong("inputs[0]", f"is larger than {max_bytes} bytes")
    raw = request.raw_input_contents
    values = raw[0] if raw else _octets(request.inputs[0].contents)
    if len(values) != height * width * 3:
        raise _wrong("inputs[0]", f"must have {height * width * 3} elements, as its shape says")
    return encode_png(values, width, height)


def _octets(contents: oip.InferTensorContents) -> bytes:
    try:
        return bytes(contents.uint_contents)
    except ValueError:
        raise _wrong("inputs[0].contents", "must have elements of 0 to 255 in uint_contents") from None


def _wrong(field: str, description: str) -> InvalidRequestError:
    return refuse([Violation(field, description)])
