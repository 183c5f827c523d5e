"""Parameter declarations and their checks."""

import dataclasses

import pytest

from explainers import METHODS, InvalidParameterError, parameter, register, specs, validate


@dataclasses.dataclass(frozen=True)
class Example:
    """A method's parameters of every kind."""

    steps: int = parameter(10, "Steps.", minimum=1, maximum=100)
    rate: float = parameter(0.1, "Rate.", minimum=0)
    depth: float = parameter(0.0, "Depth.", maximum=5)
    shift: float = parameter(0.0, "Shift.")
    flag: bool = parameter(default=True, description="Flag.")
    layer: str | None = parameter(None, "Layer.")
    names: tuple[str, ...] = parameter((), "Names.", maximum=3)
    colours: tuple[str, ...] = parameter(("red",), "Colours.", minimum=1, choices=("red", "green"))


def test_specs() -> None:
    """The table of parameters follows the declaration."""
    assert [(spec.name, spec.kind, spec.default) for spec in specs(Example)] == [
        ("steps", int, 10),
        ("rate", float, 0.1),
        ("depth", float, 0.0),
        ("shift", float, 0.0),
        ("flag", bool, True),
        ("layer", str, None),
        ("names", tuple, ()),
        ("colours", tuple, ("red",)),
    ]


def test_bounds_are_inclusive() -> None:
    """Values at the bounds are valid."""
    validate(Example(steps=1, rate=0, depth=5))
    validate(Example(steps=100))
    validate(Example(names=("c", "a", "b"), colours=("green", "red")))


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        ({"steps": 0}, "steps", "between 1 and 100"),
        ({"steps": 101}, "steps", "between 1 and 100"),
        ({"rate": -0.1}, "rate", "at least 0"),
        ({"depth": 5.5}, "depth", "at most 5"),
        ({"shift": float("nan")}, "shift", "a finite number"),
        ({"rate": float("inf")}, "rate", "at least 0"),
        ({"names": ("a", "b", "c", "d")}, "names", "number of entries must be at most 3"),
        ({"names": ("a", "b", "a")}, "names", "must not repeat an entry"),
        ({"colours": ()}, "colours", "number of entries must be at least 1"),
        ({"colours": ("red", "blue")}, "colours", "must be of red, green"),
    ],
)
def test_out_of_bounds(values: dict[str, object], name: str, message: str) -> None:
    """The error names the parameter and its range, not the value."""
    with pytest.raises(InvalidParameterError, match=message) as caught:
        validate(Example(**values))  # type: ignore[arg-type]
    assert caught.value.parameter == name


def test_name_can_be_taken_once() -> None:
    """A second method of one name is a mistake, found at import."""
    with pytest.raises(ValueError, match="registered twice"):
        register(METHODS["grad_cam"])
