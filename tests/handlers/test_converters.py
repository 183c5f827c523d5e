"""Between messages and Python values. The proto and the registry must tell the same story."""

import math

import pytest
import torch
from google.protobuf.descriptor import FieldDescriptor

from explainers import METHODS, Activation, Classes, Explanation, TopK, specs
from handlers.converters import (
    PARAMETER_TYPES,
    from_map,
    from_method,
    from_method_class,
    from_scores,
    from_seconds,
    most_probable,
    to_deadline,
    to_method,
    to_output,
    to_targets,
)
from handlers.errors import InvalidWorkError
from handlers.preprocess import Affine
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, types_pb2
from protos.worker.v1 import worker_pb2

FIELDS = method_pb2.Method.DESCRIPTOR.oneofs_by_name["method"].fields
KINDS = {
    FieldDescriptor.TYPE_STRING: str,
    FieldDescriptor.TYPE_UINT32: int,
    FieldDescriptor.TYPE_INT32: int,
    FieldDescriptor.TYPE_UINT64: int,
    FieldDescriptor.TYPE_INT64: int,
    FieldDescriptor.TYPE_FLOAT: float,
    FieldDescriptor.TYPE_DOUBLE: float,
    FieldDescriptor.TYPE_BOOL: bool,
}


def kind_of(field: FieldDescriptor) -> type:
    """The Python type of a parameter that is such a field."""
    return tuple if field.is_repeated and field.type == FieldDescriptor.TYPE_STRING else KINDS[field.type]


def test_the_proto_and_the_registry_name_the_same_methods() -> None:
    """A method is one file and one field of the oneof; neither is forgotten."""
    assert {field.name for field in FIELDS} == set(METHODS)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_the_proto_and_the_registry_name_the_same_parameters(field: FieldDescriptor) -> None:
    """By name and kind; each can be absent, so that a default is told from a zero. An empty list is an absent one."""
    fields = field.message_type.fields
    declared = specs(METHODS[field.name])
    assert {each.name: kind_of(each) for each in fields} == {spec.name: spec.kind for spec in declared}
    assert all(each.has_presence or each.is_repeated for each in fields)
    assert all(spec.default == () for spec in declared if spec.kind is tuple)


@pytest.mark.parametrize("name", METHODS)
def test_defaults_make_the_round_trip(name: str) -> None:
    """A message without parameters is the method with its defaults, and back."""
    message = method_pb2.Method()
    getattr(message, name).SetInParent()
    method = to_method(message)
    assert method == METHODS[name]()
    assert to_method(from_method(method)) == method


def test_parameters_make_the_round_trip() -> None:
    """Set fields are parameters."""
    message = method_pb2.Method(grad_cam=method_pb2.GradCam(layer="layer3"))
    method = to_method(message)
    assert method == METHODS["grad_cam"](layer="layer3")
    assert from_method(method) == message


@pytest.mark.parametrize("data", [b"", b"\xfa\x3e\x00"])
def test_no_method_or_one_of_a_newer_client(data: bytes) -> None:
    """Refused instead of guessed."""
    with pytest.raises(InvalidWorkError) as caught:
        to_method(method_pb2.Method.FromString(data))
    assert (caught.value.field, caught.value.reason) == ("method", "UNKNOWN_METHOD")


def test_method_info() -> None:
    """What clients are told of Grad-CAM."""
    info = from_method_class(METHODS["grad_cam"])
    assert (info.name, info.title, list(info.models)) == ("grad_cam", "Grad-CAM", [])
    (layer,) = info.parameters
    assert (layer.name, layer.type, layer.default_value) == ("layer", types_pb2.PARAMETER_TYPE_STRING, "")
    assert not layer.HasField("minimum")
    assert layer.description
    assert set(PARAMETER_TYPES) == {*KINDS.values(), tuple}


def test_a_list_of_strings() -> None:
    """In order, there and back; described with the number of its entries; refused when too long or repeating."""
    message = method_pb2.Method(layer_cam=method_pb2.LayerCam(further_layers=["b", "a"]))
    method = to_method(message)
    assert method == METHODS["layer_cam"](further_layers=("b", "a"))
    assert from_method(method) == message
    info = {each.name: each for each in from_method_class(METHODS["layer_cam"]).parameters}["further_layers"]
    assert (info.type, info.default_value, info.maximum) == (types_pb2.PARAMETER_TYPE_STRING_LIST, "", 8)
    for paths, text in ((list("abcdefghi"), "at most 8"), (["a", "b", "a"], "not repeat")):
        with pytest.raises(InvalidWorkError, match=text) as caught:
            to_method(method_pb2.Method(layer_cam=method_pb2.LayerCam(further_layers=paths)))
        assert (caught.value.field, caught.value.reason) == ("method.layer_cam.further_layers", "INVALID_PARAMETER")


def test_targets() -> None:
    """Indices, the k most probable, or the predicted class."""
    work = worker_pb2.ImageWork
    assert to_targets(work(class_indices=[3, 0]), 4) == Classes((3, 0))
    assert to_targets(work(target_top_k=3), 4) == TopK(3)
    assert to_targets(work(), 4) == TopK(1)
    with pytest.raises(InvalidWorkError, match="between 0 and 3") as caught:
        to_targets(work(class_indices=[3, 4]), 4)
    assert (caught.value.field, caught.value.reason) == ("targets.classes[1].index", "INVALID_TARGET")


@pytest.mark.parametrize("opacity", [-0.1, 1.1, math.nan, math.inf])
def test_opacity_outside_its_range(opacity: float) -> None:
    """Also what is no number."""
    with pytest.raises(InvalidWorkError) as caught:
        to_output(api.OutputOptions(overlay_opacity=opacity))
    assert caught.value.field == "output.overlay_opacity"


def test_output_defaults() -> None:
    """An absent opacity is a half, a zero is a zero."""
    output = to_output(api.OutputOptions())
    assert (output.color_map, output.opacity, output.input_resolution) == ("viridis", 0.5, False)
    assert to_output(api.OutputOptions(overlay_opacity=0)).opacity == 0
    with pytest.raises(InvalidWorkError):
        to_output(api.OutputOptions(color_map=77))


def test_scores() -> None:
    """Softmax over all classes, also where exp would overflow; ties go to the lower index."""
    logits = torch.tensor([1000.0, 1000.0, 0.0])
    assert most_probable(logits, 2) == [0, 1]
    first, second = from_scores(logits, [0, 1], ["a", "b", "c"], Activation.SOFTMAX)
    assert (first.label, first.logit, first.probability) == ("a", 1000.0, 0.5)
    assert second.probability == 0.5
    assert most_probable(logits, 100) == [0, 1, 2]


def test_scores_by_sigmoid() -> None:
    """Each class by itself: several may be certain."""
    first, last = from_scores(torch.tensor([1000.0, 1000.0, 0.0]), [0, 2], ["a", "b", "c"], Activation.SIGMOID)
    assert (first.probability, last.probability) == (1.0, 0.5)


def test_map() -> None:
    """Row-major, little endian, with the way back to the image."""
    values = torch.tensor([[0.0, 0.25, 0.5], [0.75, 1.0, 0.0]])
    explanation = Explanation(target=1, map=values, raw_minimum=-2.0, raw_maximum=3.0, degenerate=False)
    message = from_map(explanation, values.t().t(), Affine(2.0, 1.0, 3.0, 4.0), input_resolution=False)
    assert list(message.values.shape) == [2, 3]
    assert message.values.data == b"".join(
        bytes.fromhex(number) for number in ["00000000", "0000803e", "0000003f", "0000403f", "0000803f", "00000000"]
    )
    assert (message.raw_minimum, message.raw_maximum, message.minimum, message.maximum) == (-2.0, 3.0, 0.0, 1.0)
    way = message.map_to_image
    assert (way.xx, way.xy, way.x0, way.yx, way.yy, way.y0) == (2.0, 0.0, 1.0, 0.0, 3.0, 4.0)


def test_times() -> None:
    """Seconds to durations; a request without a deadline has all the time."""
    assert from_seconds(1.5).ToNanoseconds() == 1_500_000_000
    assert to_deadline(worker_pb2.WorkRequest()) == math.inf
    request = worker_pb2.WorkRequest()
    request.deadline.FromMilliseconds(1500)
    assert to_deadline(request) == 1.5
