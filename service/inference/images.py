"""The input tensor of a request as encoded images."""

import struct
from dataclasses import dataclass

from protos.inference import inference_service_pb2 as oip
from service.errors import InvalidRequestError, Violation
from service.inference.png import encode_png
from service.inference.refusals import refuse, shown

NAME = "image"
MAX_SIDE = 16_384  # of pixels that come as they are
_LENGTH_BYTES = 4
# KServe's client says with every input how many raw bytes it has.
_HARMLESS = frozenset({"binary_data_size"})


@dataclass(frozen=True)
class Limits:
    """How much may be in a request.

    Attributes:
        images: how many.
        image_bytes: of each one.
    """

    images: int
    image_bytes: int


def to_images(request: oip.ModelInferRequest, limits: Limits) -> list[bytes]:
    """The images of a request, each encoded.

    Raises:
        InvalidRequestError: there is not exactly one tensor, named "image", of images within the limits.
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
        return _encoded(request, limits)
    if tensor.datatype == "UINT8":
        return _pixels(request, limits)
    raise _wrong("inputs[0].datatype", "must be BYTES (encoded images) or UINT8 (pixels)")


def _encoded(request: oip.ModelInferRequest, limits: Limits) -> list[bytes]:
    """The elements of a tensor of BYTES."""
    shape = request.inputs[0].shape
    if len(shape) not in (1, 2) or list(shape[1:]) not in ([], [1]):
        raise _wrong("inputs[0].shape", "must be [n] or [n, 1] for n encoded images")
    count = _count(shape[0], limits)
    elements = _split(request.raw_input_contents[0]) if request.raw_input_contents else _typed(request)
    if len(elements) != count:
        raise _wrong("inputs[0]", f"must have as many elements as its shape says, {count}; there are {len(elements)}")
    return elements


def _typed(request: oip.ModelInferRequest) -> list[bytes]:
    contents = request.inputs[0].contents
    if not contents.bytes_contents:
        raise _wrong("inputs[0].contents", "must have its elements in bytes_contents")
    return list(contents.bytes_contents)


def _split(raw: bytes) -> list[bytes]:
    """The elements of raw contents."""
    found, position = [], 0
    while position < len(raw):
        start = position + _LENGTH_BYTES
        length = struct.unpack_from("<I", raw, position)[0] if start <= len(raw) else len(raw)
        position = start + length
        if position > len(raw):
            raise _wrong("raw_input_contents[0]", "must be elements, each behind its length in 4 bytes, little endian")
        found.append(raw[start:position])
    return found


def _pixels(request: oip.ModelInferRequest, limits: Limits) -> list[bytes]:
    """A tensor of pixels as PNGs."""
    shape = list(request.inputs[0].shape)
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise _wrong("inputs[0].shape", "must be [height, width, 3], or [n, height, width, 3] for n images")
    count = _count(shape[0], limits) if len(shape) == 4 else 1
    height, width, _ = shape[-3:]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise _wrong("inputs[0].shape", f"must have 1 to {MAX_SIDE} rows and columns")
    size = height * width * 3
    if size > limits.image_bytes:
        raise _wrong("inputs[0]", f"is larger than {limits.image_bytes} bytes an image")
    raw = request.raw_input_contents
    values = raw[0] if raw else _octets(request.inputs[0].contents)
    if len(values) != count * size:
        raise _wrong("inputs[0]", f"must have {count * size} elements, as its shape says")
    return [encode_png(values[start : start + size], width, height) for start in range(0, count * size, size)]


def _octets(contents: oip.InferTensorContents) -> bytes:
    try:
        return bytes(contents.uint_contents)
    except ValueError:
        raise _wrong("inputs[0].contents", "must have elements of 0 to 255 in uint_contents") from None


def _count(images: int, limits: Limits) -> int:
    if not 1 <= images <= limits.images:
        raise _wrong("inputs[0].shape", f"must have 1 to {limits.images} images; send more in further requests")
    return images


def _wrong(field: str, description: str) -> InvalidRequestError:
    return refuse([Violation(field, description)])
