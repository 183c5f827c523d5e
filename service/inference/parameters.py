"""The parameters of a request by their names and types."""

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from protos.inference import inference_service_pb2 as oip
from service.errors import Violation
from service.inference.refusals import shown

Value = bool | int | float | str
Kind = TypeVar("Kind", bool, int, float, str)

_WANTED: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_KINDS: dict[int, type[Value]] = {
    FieldDescriptor.CPPTYPE_BOOL: bool,
    FieldDescriptor.CPPTYPE_UINT32: int,
    FieldDescriptor.CPPTYPE_DOUBLE: float,
    FieldDescriptor.CPPTYPE_STRING: str,
}
_TRUTH = {"true": True, "false": False}
_LARGEST = 2**32 - 1  # of the whole numbers of explain.v1


class Parameters:
    """Hands out the parameters of a request one by one, and collects what is wrong with them.

    Attributes:
        violations: what is wrong so far.
    """

    def __init__(self, given: Mapping[str, oip.InferParameter]) -> None:
        self.violations: list[Violation] = []
        self._left = {name: _value(parameter) for name, parameter in given.items()}

    @property
    def left(self) -> tuple[str, ...]:
        """Names of the parameters that nobody has taken yet."""
        return tuple(self._left)

    def take(self, name: str, kind: type[Kind]) -> Kind | None:
        """The value of a parameter; None where it is not given, or after noting that it is no such value."""
        if name not in self._left:
            return None
        try:
            return _convert(self._left.pop(name), kind)
        except ValueError:
            self.refuse(name, f"must be {_WANTED[kind]}")
            return None

    def take_count(self, name: str) -> int | None:
        """As `take` of a whole number that explain.v1 has room for."""
        count = self.take(name, int)
        if count is None or 0 <= count <= _LARGEST:
            return count
        self.refuse(name, f"must be between 0 and {_LARGEST}")
        return None

    def take_index_or_label(self, name: str) -> int | str | None:
        """A number is the index of a class, a text its label, also where that is a number."""
        if isinstance(self._left.get(name), str):
            return self.take(name, str)
        return self.take_count(name)

    def take_below(self, prefix: str) -> dict[str, Value]:
        """The values of all parameters whose names begin so, by what follows."""
        names = [name for name in self._left if name.startswith(prefix)]
        return {name.removeprefix(prefix): self._left.pop(name) for name in names}

    def fill(self, message: Message) -> None:
        """Set each field of a message that a parameter is named after; one of a list takes "one,two"."""
        for field in message.DESCRIPTOR.fields:
            kind: Any = _KINDS[field.cpp_type]
            value = self.take_count(field.name) if kind is int else self.take(field.name, kind)
            if value is None:
                continue
            if field.is_repeated:
                getattr(message, field.name).extend(str(value).split(","))
            else:
                setattr(message, field.name, value)

    def refuse(self, name: str, description: str) -> None:
        """Note that a parameter is wrong."""
        self._left.pop(name, None)
        self.violations.append(Violation(f"parameters.{shown(name)}", description))

    def refuse_left(self, description: str) -> None:
        """Note that each parameter that nobody took is wrong."""
        for name in self.left:
            self.refuse(name, description)


def _value(parameter: oip.InferParameter) -> Value:
    """The value that is set; "" where none is."""
    name = parameter.WhichOneof("parameter_choice")
    value: Value = getattr(parameter, name) if name is not None else ""
    return value


def _convert(value: Value, kind: type[Kind]) -> Kind:
    """The value as that kind. Text is read, for clients that cannot send every kind of number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and kind is bool:
        value = _TRUTH.get(value.lower(), value)
    if isinstance(value, str) and kind in (int, float):
        return kind(value)
    if isinstance(value, int) and not isinstance(value, bool) and kind is float:
        return kind(value)
    if type(value) is not kind:
        raise ValueError
    return value
