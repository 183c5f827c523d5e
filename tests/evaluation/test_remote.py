"""What is asked of a service, and what is made of its answers."""

from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from evaluation.backend import Plan
from evaluation.choices import parse_methods, parse_metrics
from evaluation.errors import EvaluationError, UsageError
from evaluation.items import Item, Region
from evaluation.remote import Remote
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import quality_pb2, types_pb2
from service.client import CallError, Client

CLASSES = 12


class Service:
    """Answers every explanation with the class index as its figure, and a map whose left half is bright."""

    def __init__(self, code: str = "") -> None:
        self.code = code
        self.requests: list[api.ExplainRequest] = []

    def model(self, name: str) -> types_pb2.Model:
        support = [types_pb2.MethodSupport(method="grad_cam", supported=True)]
        support.append(types_pb2.MethodSupport(method="tibav", reason="no transformer"))
        labels = [str(index) for index in range(CLASSES)]
        return types_pb2.Model(name=name, labels=labels, input_height=4, input_width=8, methods=support)

    def metrics(self) -> list[types_pb2.MetricInfo]:
        return [types_pb2.MetricInfo(name=name) for name in ("average_drop", "win_percentage")]

    def predict(self, request: api.PredictRequest) -> api.PredictResponse:
        if self.code:
            raise CallError("refused", self.code)
        return api.PredictResponse(
            predictions=[types_pb2.ClassScore(index=index, probability=index / 100) for index in range(CLASSES)]
        )

    def explain(self, request: api.ExplainRequest) -> api.ExplainResponse:
        self.requests.append(request)
        explanations = [self._explanation(each.index, request) for each in request.targets.classes.classes]
        return api.ExplainResponse(explanations=explanations, predictions=[types_pb2.ClassScore(index=11)])

    def _explanation(self, index: int, request: api.ExplainRequest) -> types_pb2.Explanation:
        # The input is 8 x 4 in the middle of an image of 16 x 4: a cell of the map is 4 pixels wide and 2 high.
        saliency = types_pb2.SaliencyMap(
            values=types_pb2.Tensor(shape=(2, 2), data=np.array([[1, 0], [1, 0]], "<f4").tobytes()),
            map_to_image=types_pb2.AffineTransform(xx=4, x0=4, yy=2, y0=0),
        )
        figures = [
            quality_pb2.QualityFigure(metric=each.name, value=None if index == 3 else index)
            for each in request.quality.metrics
        ]
        return types_pb2.Explanation(target=types_pb2.ClassScore(index=index), map=saliency, quality=figures)


def remote(service: Service) -> Remote:
    return Remote(cast(Client, service), "model")


def item(*classes: int) -> Item:
    """An image of 16 x 4; each class has the box of the left quarter of what the network sees."""
    regions = tuple(Region((index,), ((0.0, 0.0, 6.0, 4.0),)) for index in classes)
    return Item("a", np.zeros((4, 16, 3), np.uint8), tuple((index,) for index in classes), regions)


def explain(service: Service, metrics: str, one: Item, **options: Any) -> Any:
    backend = remote(service)
    plan = backend.resolve(Plan(parse_methods(["grad_cam"]), parse_metrics([metrics]), **options), leave_out=False)
    batch = backend.prepare([one], plan)
    (outcome,) = backend.explain(batch, "grad_cam", plan)
    return outcome


def test_many_targets_are_asked_for_in_several_requests() -> None:
    """Ten at once; the answers are one outcome, in the order of the targets."""
    service = Service()
    outcome = explain(service, "average_drop", item(*range(12)))
    assert [len(request.targets.classes.classes) for request in service.requests] == [10, 2]
    assert outcome.targets == tuple(range(12))
    assert outcome.values == {"average_drop": [0, 1, 2, None, *range(4, 12)]}
    assert outcome.predicted == 11


def test_boxes_are_looked_at_in_the_pixels_of_the_input() -> None:
    """The box at 0 to 6 of the image is 0 to 2 of an input that begins at pixel 4.

    The map enlarged to 8 columns is 1, 1, .875, .625, .375, .125, 0, 0 of which the first two are inside.
    """
    outcome = explain(Service(), "energy_pointing_game,average_drop", item(5))
    assert outcome.values == {"energy_pointing_game": [pytest.approx(2 / 4)], "average_drop": [5]}


def test_only_what_the_service_computes_is_asked_for() -> None:
    """With every parameter of the method, and the other method where two are compared; the image goes as a PNG."""
    service = Service()
    other = parse_methods(["grad_cam:layer=x"])["grad_cam:layer=x"]
    explain(service, "pointing_game,win_percentage,average_drop", item(5), compare_with=other)
    (request,) = service.requests
    assert [choice.name for choice in request.quality.metrics] == ["win_percentage", "average_drop"]
    assert request.quality.compare_with.grad_cam.layer == "x"
    assert request.method.WhichOneof("method") == "grad_cam"
    assert request.image.startswith(b"\x89PNG")
    assert Image.fromarray(item(5).image).size == (16, 4)  # type: ignore[arg-type]


def test_the_predicted_class_is_the_most_probable_one() -> None:
    """Where it is asked for, whatever is in the image."""
    assert explain(Service(), "average_drop", item(5), target="predicted").targets == (11,)


def test_an_image_that_is_refused_is_left_out() -> None:
    """It is the image's fault, so the run goes on; anything else ends it."""
    plan = Plan(parse_methods(["grad_cam"]), parse_metrics(["average_drop"]))
    batch = remote(Service("INVALID_ARGUMENT")).prepare([item(5)], plan)
    assert (batch.items, batch.failures) == ((), {"a": "refused"})
    with pytest.raises(EvaluationError, match="refused"):
        remote(Service("UNAVAILABLE")).prepare([item(5)], plan)


@pytest.mark.parametrize(
    ("methods", "metrics", "message"),
    [
        ("occlusion", "average_drop", "knows no method 'occlusion'"),
        ("grad_cam", "insertion", "insertion needs the network itself"),
        ("grad_cam", "official_metric", "official_metric needs the network itself"),
        ("grad_cam", "win_percentage", "--compare-with"),
    ],
)
def test_what_the_service_cannot_do_is_refused(methods: str, metrics: str, message: str) -> None:
    """Before anything is asked for."""
    plan = Plan(parse_methods([methods]), parse_metrics([metrics]))
    with pytest.raises(UsageError, match=message):
        remote(Service()).resolve(plan, leave_out=False)


def test_all_methods_are_those_that_the_service_supports() -> None:
    """Others are left out without a word."""
    plan = Plan(parse_methods(["all"]), parse_metrics(["average_drop"]))
    assert list(remote(Service()).resolve(plan, leave_out=True).methods) == ["grad_cam"]
