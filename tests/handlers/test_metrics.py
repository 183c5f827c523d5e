"""From what a client asks for to metrics, and from metrics to what it gets."""

import inspect
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from explainers import METHODS, Network, specs
from handlers.converters import from_method
from handlers.errors import InvalidWorkError, NotApplicableWorkError
from handlers.metrics import OFFERED, from_figure, from_metric_class, to_quality
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from quality import METRICS, AverageDrop, Infidelity, Insertion, MaxSensitivity, Need, SaliencyMetric
from tests.explainers.networks import network, prepare, vgg

GRAD_CAM = method_pb2.Method(grad_cam=method_pb2.GradCam())
PRIVATE = "patient Jane Doe"


@pytest.fixture(scope="module")
def net() -> Network:
    """A network on which Grad-CAM works and CAM does not."""
    return network(prepare(vgg()))


def choice(name: str, **parameters: Any) -> quality_pb2.MetricChoice:
    return quality_pb2.MetricChoice(name=name, parameters=ParseDict(parameters, Struct()) if parameters else None)


def options(
    *choices: quality_pb2.MetricChoice, compare_with: method_pb2.Method | None = None
) -> quality_pb2.QualityOptions:
    return quality_pb2.QualityOptions(metrics=choices, compare_with=compare_with)


def test_nothing_asked_for(net: Network) -> None:
    """No metric and no second method."""
    quality = to_quality(options(), net)
    assert (quality.metrics, quality.compare_with) == ((), None)


def test_metrics_keep_their_order_and_get_their_parameters(net: Network) -> None:
    """A number of a Struct becomes the parameter's kind; what is left out is the default."""
    asked = options(
        choice("max_sensitivity", samples=3, radius=0.25),
        choice("insertion", steps=8, baseline="black"),
        choice("infidelity", rescale=False, size=1),
        choice("insertion"),
        choice("saliency_metric", threshold=0.5),
    )
    metrics = to_quality(asked, net).metrics
    assert metrics == (
        MaxSensitivity(samples=3, radius=0.25),
        Insertion(steps=8, baseline="black"),
        Infidelity(rescale=False, size=1.0),
        Insertion(),
        SaliencyMetric(threshold=0.5),
    )
    assert isinstance(metrics[0], MaxSensitivity)
    assert type(metrics[0].samples) is int


def test_what_clients_are_offered() -> None:
    """Everything but what needs boxes, masks or the module itself."""
    assert {"average_drop", "insertion", "max_sensitivity", "rank_correlation", "border_mass"} <= OFFERED.keys()
    for name in METRICS.keys() - OFFERED.keys():
        assert METRICS[name].needs & {Need.BOXES, Need.MASKS, Need.MODEL}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (choice("magic"), "name"),
        (choice(""), "name"),
        (choice("mean_iou"), "name"),
        (choice("model_randomisation"), "name"),
        (choice("insertion", **{PRIVATE: 1}), "parameters"),
        (choice("average_drop", steps=1), "parameters"),
        (choice("insertion", steps="8"), "parameters.steps"),
        (choice("insertion", steps=1.5), "parameters.steps"),
        (choice("insertion", steps=True), "parameters.steps"),
        (choice("insertion", steps=None), "parameters.steps"),
        (choice("insertion", steps=[8]), "parameters.steps"),
        (choice("insertion", steps={"steps": 8}), "parameters.steps"),
        (choice("insertion", steps=0), "parameters.steps"),
        (choice("insertion", steps=65537), "parameters.steps"),
        (choice("insertion", steps=1e300), "parameters.steps"),
        (choice("insertion", baseline=PRIVATE), "parameters.baseline"),
        (choice("insertion", baseline=1), "parameters.baseline"),
        (choice("infidelity", rescale=1), "parameters.rescale"),
        (choice("max_sensitivity", radius=0), "parameters.radius"),
        (choice("max_sensitivity", radius=1.01), "parameters.radius"),
        (choice("max_sensitivity", radius="0.1"), "parameters.radius"),
        (choice("saliency_metric", threshold=1), "parameters.threshold"),
    ],
)
def test_what_is_wrong_is_named_without_the_clients_words(
    net: Network, asked: quality_pb2.MetricChoice, field: str
) -> None:
    """INVALID_ARGUMENT with the path of the field; neither path nor message repeats what the client wrote."""
    with pytest.raises(InvalidWorkError) as caught:
        to_quality(options(choice("average_gain"), asked), net)
    assert caught.value.field == f"quality.metrics[1].{field}"
    assert PRIVATE not in caught.value.message + caught.value.field
    assert caught.value.reason == ("INVALID_PARAMETER" if field.startswith("parameters.") else "INVALID_REQUEST")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("name", "parameter"), [("insertion", "steps"), ("max_sensitivity", "radius")])
def test_numbers_that_are_not_finite_are_refused(net: Network, number: float, name: str, parameter: str) -> None:
    """A Struct can carry them, a parameter cannot."""
    parameters = Struct()
    parameters.fields[parameter].number_value = number
    with pytest.raises(InvalidWorkError) as caught:
        to_quality(options(quality_pb2.MetricChoice(name=name, parameters=parameters)), net)
    assert caught.value.field == f"quality.metrics[0].parameters.{parameter}"


def test_bounds_are_allowed_themselves(net: Network) -> None:
    """Both ends of a range are inside of it."""
    for name, kind in OFFERED.items():
        for spec in specs(kind):
            for bound in (spec.minimum, spec.maximum):
                if bound is not None:
                    asked = options(choice(name, **{spec.name: bound}), compare_with=GRAD_CAM)
                    assert getattr(to_quality(asked, net).metrics[0], spec.name) == bound


def test_the_same_metric_twice(net: Network) -> None:
    """Also where one of the two writes a default out."""
    with pytest.raises(InvalidWorkError, match="twice") as caught:
        to_quality(options(choice("insertion"), choice("insertion", steps=8), choice("insertion", steps=224)), net)
    assert caught.value.field == "quality.metrics[2]"


@pytest.mark.parametrize("name", ["rank_correlation", "top_overlap", "win_percentage"])
def test_a_comparison_needs_a_second_method(net: Network, name: str) -> None:
    """Without one it is refused; with one it is there with every parameter filled in."""
    with pytest.raises(InvalidWorkError, match="second method") as caught:
        to_quality(options(choice(name)), net)
    assert caught.value.field == "quality.metrics[0].name"
    quality = to_quality(options(choice(name), compare_with=GRAD_CAM), net)
    assert quality.compare_with == METHODS["grad_cam"]().resolve(net)
    assert quality.compare_with != METHODS["grad_cam"]()


@pytest.mark.parametrize(
    ("method", "error", "field", "reason"),
    [
        (method_pb2.Method(cam=method_pb2.Cam()), NotApplicableWorkError, "", "METHOD_NOT_APPLICABLE"),
        (method_pb2.Method(), InvalidWorkError, "", "UNKNOWN_METHOD"),
        (from_method(METHODS["opti_cam"](steps=0)), InvalidWorkError, ".opti_cam.steps", "INVALID_PARAMETER"),
        (from_method(METHODS["grad_cam"](layer="x")), InvalidWorkError, ".grad_cam.layer", "UNKNOWN_LAYER"),
    ],
)  # fmt: skip
def test_a_second_method_that_does_not_work(
    net: Network, method: method_pb2.Method, error: type[Exception], field: str, reason: str
) -> None:
    """The same statuses as for the first method, at its own field."""
    with pytest.raises(error) as caught:
        to_quality(options(compare_with=method), net)
    assert isinstance(caught.value, InvalidWorkError | NotApplicableWorkError)
    assert (caught.value.field, caught.value.reason) == (f"quality.compare_with{field}", reason)


def test_the_message_of_a_figure() -> None:
    """All that is needed to read it, with the parameters that were left out; not-a-number is no value."""
    figure = from_figure(Insertion(steps=8), 0.25)
    assert (figure.metric, figure.title, figure.unit) == ("insertion", "Insertion", "probability")
    assert (figure.formula, figure.reference) == (Insertion.formula, Insertion.reference)
    assert dict(figure.parameters.items()) == {"steps": 8, "baseline": "blur"}
    assert (figure.direction, figure.value) == (quality_pb2.METRIC_DIRECTION_HIGHER, 0.25)
    assert from_figure(AverageDrop(), 0.0).HasField("value")
    assert from_figure(AverageDrop(), 0.0).direction == quality_pb2.METRIC_DIRECTION_LOWER
    assert not from_figure(AverageDrop(), float("nan")).HasField("value")
    assert from_figure(SaliencyMetric(), 1.0).parameters["threshold"] is None


@pytest.mark.parametrize("name", OFFERED)
def test_the_description_of_a_metric(name: str) -> None:
    """Everything that a metric says of itself; a bound that does not exist is left out."""
    kind = OFFERED[name]
    info = from_metric_class(kind)
    assert (info.name, info.title, info.unit) == (name, kind.title, kind.unit.value)
    assert info.description.split() == (inspect.getdoc(kind) or "").split()
    assert info.compares == (Need.OTHER_MAPS in kind.needs)
    assert [each.name for each in info.parameters] == [spec.name for spec in specs(kind)]
    low, high = kind.range
    assert (info.minimum if info.HasField("minimum") else float("-inf")) == low
    assert (info.maximum if info.HasField("maximum") else float("inf")) == high


def test_a_described_parameter() -> None:
    """Kind, default and bounds as for the methods."""
    (steps, baseline) = from_metric_class(Insertion).parameters
    assert (steps.type, steps.default_value, steps.minimum) == (types_pb2.PARAMETER_TYPE_INTEGER, "224", 1)
    assert (baseline.type, baseline.default_value) == (types_pb2.PARAMETER_TYPE_STRING, "blur")
