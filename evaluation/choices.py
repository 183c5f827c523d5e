"""Methods and metrics in text form: `opti_cam:preset=fast,grad_cam`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from evaluation.errors import UsageError
from explainers import METHODS, InvalidParameterError, Method, ParameterSpec, specs, validate
from quality import METRICS, Metric

T = TypeVar("T")

ALL = "all"
DEFAULT_METRICS = (
    "average_drop",
    "average_gain",
    "average_increase",
    "insertion",
    "deletion",
    "energy_pointing_game",
    "pointing_game",
    "pixel_f1",
    "localisation_error",
)


def parse_methods(texts: Sequence[str]) -> dict[str, Method]:
    """Methods by their text form; `all` means each with its defaults.

    Raises:
        UsageError: there is no such method or parameter, or no such value; or one is named twice.
    """
    return parse(texts, METHODS, "method")


def parse_metrics(texts: Sequence[str]) -> dict[str, Metric]:
    """Metrics by their text form; as `parse_methods`."""
    return parse(texts, METRICS, "metric")


def parse(texts: Sequence[str], registry: Mapping[str, type[T]], what: str) -> dict[str, T]:
    """Instances of registered dataclasses by their text form, each of which may hold several between commas.

    Raises:
        UsageError: as `parse_methods`.
    """
    parts = [name for part in split(texts) for name in (registry if part == ALL else (part,))]
    found: dict[str, T] = {}
    for part in parts:
        one = _one(part, registry, what)
        if one in found.values():
            raise UsageError(f"the {what} {part} is named twice")
        found[part] = one
    if not found:
        raise UsageError(f"name at least one {what}")
    return found


def split(texts: Sequence[str]) -> list[str]:
    """What stands between commas, of all texts."""
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _one(text: str, registry: Mapping[str, type[T]], what: str) -> T:
    name, *parameters = text.split(":")
    kind = registry.get(name)
    if kind is None:
        raise UsageError(f"there is no {what} {name!r}; there are: {', '.join(sorted(registry))}")
    known = {spec.name: spec for spec in specs(kind)}
    values: dict[str, Any] = {}
    for parameter in parameters:
        key, separator, value = parameter.partition("=")
        if key not in known or not separator:
            names = ", ".join(f"{each}=..." for each in known) or "none"
            raise UsageError(f"no parameter {parameter!r} of {name}; there are: {names}")
        values[key] = _value(known[key], value, name)
    try:
        one = kind(**values)
        validate(one)
    except InvalidParameterError as error:
        raise UsageError(f"{name}: {error}") from None
    return one


def _value(spec: ParameterSpec, text: str, name: str) -> Any:
    try:
        return {"true": True, "false": False}[text.lower()] if spec.kind is bool else spec.kind(text)
    except (ValueError, KeyError):
        raise UsageError(f"{text!r} is no value for {spec.name} of {name}") from None


def parameters_of(choice: Any) -> dict[str, Any]:
    """Every parameter of a method or a metric, also those that were left out."""
    return dataclasses.asdict(choice)
