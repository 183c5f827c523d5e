"""Typed parameters: the fields of a method's dataclass, with bounds and a description."""

import dataclasses
import math
from typing import Any, get_args, get_origin, get_type_hints

from explainers.errors import InvalidParameterError


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """One parameter of a method.

    Attributes:
        name: field name, the same on the wire.
        kind: str, int, float, bool, or tuple: a list of strings, declared as tuple[str, ...].
        default: value when the caller gives none; None where the network decides.
        minimum: smallest allowed number, inclusive, or None; of a list, the fewest entries.
        maximum: largest allowed number, inclusive, or None; of a list, the most entries.
        description: one sentence for users.
        choices: the allowed strings; empty where any will do.
    """

    name: str
    kind: type
    default: Any
    minimum: float | None
    maximum: float | None
    description: str
    choices: tuple[str, ...] = ()


def parameter(
    default: Any,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a dataclass field that is a parameter of a method."""
    metadata = {"description": description, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def specs(method: type) -> tuple[ParameterSpec, ...]:
    """The parameters of a method class, in the order in which it declares them."""
    hints = get_type_hints(method)
    return tuple(
        ParameterSpec(
            name=field.name,
            kind=_kind(hints[field.name]),
            default=field.default,
            minimum=field.metadata["minimum"],
            maximum=field.metadata["maximum"],
            description=field.metadata["description"],
            choices=field.metadata["choices"],
        )
        for field in dataclasses.fields(method)
    )


def _kind(hint: Any) -> type:
    """The kind of a field's annotation, which may say "or None"."""
    if get_origin(hint) is tuple:
        return tuple
    kind: type = next(kind for kind in (get_args(hint) or (hint,)) if kind is not type(None))
    return kind


def validate(method: Any) -> None:
    """Check every parameter of a method instance against its bounds.

    Raises:
        InvalidParameterError: a number is not finite or outside its bounds, a string is none of its choices, or a list
            has too few or too many entries, or one of them twice.
    """
    for spec in specs(type(method)):
        value = getattr(method, spec.name)
        if isinstance(value, tuple):
            _validate_list(spec, value)
            continue
        if spec.choices and value is not None and value not in spec.choices:
            raise InvalidParameterError(spec.name, f"{spec.name} must be one of {', '.join(spec.choices)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        too_small = spec.minimum is not None and value < spec.minimum
        too_large = spec.maximum is not None and value > spec.maximum
        if not math.isfinite(value) or too_small or too_large:
            raise InvalidParameterError(spec.name, f"{spec.name} must be {_bounds(spec)}")


def _validate_list(spec: ParameterSpec, entries: tuple[str, ...]) -> None:
    if spec.choices and not set(entries) <= set(spec.choices):
        raise InvalidParameterError(spec.name, f"{spec.name} must be of {', '.join(spec.choices)}")
    too_few = spec.minimum is not None and len(entries) < spec.minimum
    too_many = spec.maximum is not None and len(entries) > spec.maximum
    if too_few or too_many:
        raise InvalidParameterError(spec.name, f"{spec.name}: the number of entries must be {_bounds(spec)}")
    if len(set(entries)) < len(entries):
        raise InvalidParameterError(spec.name, f"{spec.name} must not repeat an entry")


def _bounds(spec: ParameterSpec) -> str:
    if spec.minimum is None and spec.maximum is None:
        return "a finite number"
    if spec.maximum is None:
        return f"at least {spec.minimum:g}"
    if spec.minimum is None:
        return f"at most {spec.maximum:g}"
    return f"between {spec.minimum:g} and {spec.maximum:g}"
