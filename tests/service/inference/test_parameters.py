"""Request parameters as the fields of explain.v1."""

import pytest
from google.protobuf.descriptor import FieldDescriptor

from protos.explain.v1 import method_pb2
from service.inference.parameters import Parameters
from tests.service.inference.asking import parameter

METHODS = {field.name: field.message_type for field in method_pb2.Method.DESCRIPTOR.fields}
OUR_OWN = {
    *("explain", "method", "target", "target_top_k", "quality", "compare_with", "resolution", "allow_partial"),
    *("top_k", "no_cache", "timeout", "priority"),
}
EXAMPLES = {
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_UINT32: 7,
    FieldDescriptor.CPPTYPE_DOUBLE: 0.5,
    FieldDescriptor.CPPTYPE_STRING: "one,two",
}


@pytest.mark.parametrize("as_text", [False, True], ids=["typed", "text"])
@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_every_method_can_be_given(name: str, as_text: bool) -> None:
    """With its own type, and as text; none of them has the name of one of the protocol's own."""
    fields = METHODS[name].fields
    values = {field.name: EXAMPLES[field.cpp_type] for field in fields}
    given = Parameters({key: parameter(str(value) if as_text else value) for key, value in values.items()})
    message = getattr(method_pb2.Method(), name)
    given.fill(message)
    assert given.violations == []
    assert given.left == ()
    for field in fields:
        expected = str(values[field.name]).split(",") if field.is_repeated else values[field.name]
        assert getattr(message, field.name) == expected
    assert not values.keys() & OUR_OWN


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, float, 3.0),
        ("0.25", float, 0.25),
        (True, float, None),
        (True, int, None),
        (3.0, int, None),
        ("3.0", int, None),
        ("FALSE", bool, False),
        (0, bool, None),
        (3, str, None),
    ],
)
def test_values_keep_their_kind(value: bool | int | float | str, kind: type, expected: object) -> None:
    """Text is read, a whole number is a number, and nothing else is taken for another."""
    given = Parameters({"a": parameter(value)})
    assert given.take("a", kind) == expected
    assert [each.field for each in given.violations] == ([] if expected is not None else ["parameters.a"])
