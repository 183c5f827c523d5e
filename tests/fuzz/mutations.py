"""Random changes to messages, made from their descriptors, and to bytes: new fields and procedures come along."""

import math
import random
from collections.abc import Sequence
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

Field = FieldDescriptor
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 5e-324, 1e-38, 3.4e38, 1.7e308, math.nan, math.inf, -math.inf)
_SIGNED = {Field.TYPE_INT32: 32, Field.TYPE_SINT32: 32, Field.TYPE_SFIXED32: 32,
           Field.TYPE_INT64: 64, Field.TYPE_SINT64: 64, Field.TYPE_SFIXED64: 64}  # fmt: skip
_UNSIGNED = {Field.TYPE_UINT32: 32, Field.TYPE_FIXED32: 32, Field.TYPE_UINT64: 64, Field.TYPE_FIXED64: 64}
_DEEPEST = 4  # levels of messages that are filled by chance
_MANY = 1000
_NESTED = 25  # levels of a Struct, each of them three of messages: protobuf gives up at 100


class Mutator:
    """Makes and changes messages.

    Args:
        source: of every decision.
        words: strings with a meaning, for example names of models.
        blobs: bytes with a meaning, for example images.
    """

    def __init__(self, source: random.Random, words: Sequence[str], blobs: Sequence[bytes]) -> None:
        self._source = source
        self._words = (*words, "", " ", "\0", "%s%n", "../../etc/passwd", "{0}", "\u202e\ud7ff\U0001f9e0", "x" * 5000)
        self._blobs = (*blobs, b"", b"\0")

    def message(self, kind: Descriptor, depth: int = 0) -> Message:
        """A message with some of its fields set."""
        made: Message = message_factory.GetMessageClass(kind)()
        for field in self._some(kind):
            self._set(made, field, depth)
        return made

    def _some(self, kind: Descriptor) -> list[FieldDescriptor]:
        """Some fields, of each oneof at most one."""
        choices: dict[str, list[FieldDescriptor]] = {}
        for field in kind.fields:
            group = field.containing_oneof
            choices.setdefault(field.name if group is None else f"oneof {group.name}", []).append(field)
        return [self._source.choice(fields) for fields in choices.values() if self._source.random() < 0.4]

    def mutate(self, message: Message, depth: int = 0) -> None:
        """Change one field of a message, or of a message in it."""
        if isinstance(message, Struct):
            message.CopyFrom(self._struct())
            return
        fields = message.DESCRIPTOR.fields
        present = [field for field, _ in message.ListFields() if _is_single_message(field)]
        if present and self._source.random() < 0.6:
            self.mutate(getattr(message, self._source.choice(present).name), depth + 1)
        elif fields:
            field = self._source.choice(fields)
            if self._source.random() < 0.15:
                message.ClearField(field.name)
            else:
                self._set(message, field, depth)

    def scramble(self, data: bytes, most: int = 8) -> bytes:
        """Flip, replace, cut, repeat and insert bytes at up to `most` places."""
        raw = bytearray(data)
        for _ in range(self._source.randint(1, most)):
            start = self._source.randrange(len(raw) + 1)
            end = min(len(raw), start + self._source.choice((1, 1, 2, 4, 16, 256)))
            match self._source.randrange(6):
                case 0 if start < len(raw):
                    raw[start] ^= 1 << self._source.randrange(8)
                case 1:
                    raw[start:end] = self._source.randbytes(end - start)
                case 2:
                    del raw[start:end]
                case 3:
                    raw[start:start] = raw[start:end]
                case 4:
                    raw[start:end] = self._source.choice((b"\0", b"\xff", b"\x80")) * (end - start)
                case _ if self._source.random() < 0.1:
                    del raw[start:]
        return bytes(raw)

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if not field.is_repeated:
            if field.message_type is not None:
                getattr(message, field.name).CopyFrom(self._inner(field.message_type, depth))
            else:
                setattr(message, field.name, self._scalar(field))
            return
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return  # a request of ours has none but in a Struct
        count = _MANY if self._source.random() < 0.02 else self._source.randint(0, 3)
        values = getattr(message, field.name)
        if field.message_type is not None:
            one = self._inner(field.message_type, depth)
            values.extend([one] * count if count == _MANY else [self._inner(field.message_type, depth)] * count)
        else:
            values.extend(self._scalar(field) for _ in range(count))

    def _inner(self, kind: Descriptor, depth: int) -> Message:
        if kind is Struct.DESCRIPTOR:
            return self._struct()
        return self.message(kind, depth + 1) if depth < _DEEPEST else message_factory.GetMessageClass(kind)()

    def _struct(self) -> Struct:
        struct = Struct()
        for _ in range(self._source.randint(0, 3)):
            struct[self._word()] = self._value()
        if self._source.random() < 0.1:
            inner = struct
            for _ in range(self._source.randrange(_NESTED)):
                inner = inner.get_or_create_struct("a")
        return struct

    def _value(self) -> Any:
        number = float(self._source.randint(-5, 5000))
        return self._source.choice((None, True, self._source.choice(FLOATS), number, self._word(), [1.0], {}))

    def _scalar(self, field: FieldDescriptor) -> Any:
        source = self._source
        if field.type in _UNSIGNED:
            bits = _UNSIGNED[field.type]
            return source.choice((0, 1, 2, 3, 5, 100, source.getrandbits(bits), 2**bits - 1))
        if field.type in _SIGNED:
            bits = _SIGNED[field.type] - 1
            return source.choice((0, 1, -1, 7, 2**bits - 1, -(2**bits), source.getrandbits(bits)))
        if field.type in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
            return source.choice((*FLOATS, source.random()))
        if field.type == Field.TYPE_BOOL:
            return source.random() < 0.5
        if field.type == Field.TYPE_ENUM:
            return source.choice((*field.enum_type.values_by_number, 99, -1, 2**31 - 1))
        if field.type == Field.TYPE_BYTES:
            blob = source.choice(self._blobs)
            return blob if source.random() < 0.4 else self.scramble(blob)
        return self._word()

    def _word(self) -> str:
        return self._source.choice(self._words)


def _is_single_message(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.is_repeated
