"""How much of a request is not image: looked at before it is parsed, because parsing can take 30 times its size.

A message of 30 MB may hold 15 million empty messages, and each of them is an object.
"""

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from service.errors import InvalidRequestError

# Bytes of a request besides those in fields of type bytes. A request with every field that a client can want has a few
# thousand.
MOST = 64 * 1024

_DEEPEST = 8  # levels at which an image may be; a Struct may be nested for ever

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}


def check_envelope(raw: bytes, kind: Descriptor) -> None:
    """Refuse what is large for another reason than its image. What is no message is left to the parser.

    Raises:
        InvalidRequestError: it has more than MOST bytes besides the image.
    """
    if len(raw) > MOST and _envelope(memoryview(raw), kind) > MOST:
        raise InvalidRequestError(f"the request has more than {MOST} bytes besides its image", ())


def _envelope(raw: memoryview, kind: Descriptor, depth: int = 0) -> int:
    """Bytes that are in no field of type bytes; counted until there are too many, or nothing makes sense any more."""
    position, found = 0, 0
    while position < len(raw) and found <= MOST:
        began = position
        tag, position = _read_varint(raw, position)
        field: FieldDescriptor | None = kind.fields_by_number.get(tag >> 3)
        if tag & 7 == _BYTES:
            length, position = _read_varint(raw, position)
            content = raw[position : position + length]
            position += length
            found += position - began - len(content) + _counted(content, field, depth)
        else:
            position = (
                _read_varint(raw, position)[1] if tag & 7 == _VARINT else position + _SIZES.get(tag & 7, len(raw))
            )
            found += position - began
    return found


def _counted(content: memoryview, field: FieldDescriptor | None, depth: int) -> int:
    if field is not None and field.type == FieldDescriptor.TYPE_BYTES:
        return 0
    if field is not None and field.message_type is not None and len(content) > MOST and depth < _DEEPEST:
        return _envelope(content, field.message_type, depth + 1)  # it may hold the image
    return len(content)


def _read_varint(raw: memoryview, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = shift = 0
    while position < len(raw):
        byte = raw[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            break
    return number, position
