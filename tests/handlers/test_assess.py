"""The quality of what was computed for one item."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from explainers import Classes, ImageResult
from handlers.assess import Assessment, assess
from handlers.errors import DeadlineError
from handlers.jobs import Job, prepare
from handlers.loading import LoadedModel, load_model
from handlers.settings import Limits
from handlers.worker import Worker
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from quality import METRICS, BorderMass, Direction, Evidence, Metric, RankCorrelation, explain_by, of_results
from quality import MaxSensitivity as Sensitivity
from quality.checks import BORDER_MASS_ABOVE, DISAGREE_BELOW, UNSTABLE_ABOVE
from tests.handlers.pictures import encode, flat, photograph
from tests.handlers.test_metrics import choice, options
from tests.tiny import unpack, write_tiny

PHOTO = encode(photograph())
GRAD_CAM = method_pb2.Method(grad_cam=method_pb2.GradCam())
FIRST_LAYER = method_pb2.Method(grad_cam=method_pb2.GradCam(layer="first"))
OPTI_CAM = method_pb2.Method(opti_cam=method_pb2.OptiCam(steps=5))
VISIBLE = (2, 4)  # classes whose maps are not degenerate on PHOTO
NETWORK_METRICS = ("average_drop", "average_gain", "insertion", "border_mass", "max_sensitivity")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A network of a few hundred weights that fails over white images."""
    path = tmp_path_factory.mktemp("fussy")
    return load_model(unpack(write_tiny(path, "Fussy"), path), torch.device("cpu"))


def request(
    *choices: quality_pb2.MetricChoice,
    image: bytes = PHOTO,
    method: method_pb2.Method = GRAD_CAM,
    targets: tuple[int, ...] = VISIBLE,
    **fields: Any,
) -> worker_pb2.WorkRequest:
    quality = options(*choices, **fields)
    work = worker_pb2.ImageWork(image=image, top_k=2, method=method, class_indices=targets, quality=quality)
    return worker_pb2.WorkRequest(request_id="r-1", image=work)


def job(model: LoadedModel, *choices: quality_pb2.MetricChoice, **fields: Any) -> tuple[Job, ImageResult]:
    """A request as it is when its map has been computed."""
    made = prepare(request(*choices, **fields), model, Limits())
    assert made.method is not None
    return made, made.method.explain(model.network, made.pixels[None], [made.targets])[0]


def asked(model: LoadedModel, *choices: quality_pb2.MetricChoice, **fields: Any) -> Assessment:
    return assess(*job(model, *choices, **fields), model.network)


def test_figures_are_those_of_the_metrics(model: LoadedModel) -> None:
    """For each target, in the order asked for: what the metrics say of the same map."""
    made, result = job(model, *map(choice, NETWORK_METRICS), choice("top_overlap"), compare_with=FIRST_LAYER)
    assessment = assess(made, result, model.network)
    assert made.method is not None
    other = made.quality.compare_with
    assert other is not None
    others = other.explain(model.network, made.pixels[None], [Classes(VISIBLE)])[0].explanations
    evidence = of_results(
        model.network,
        made.pixels[None],
        [result],
        explain=explain_by(made.method),
        other_maps=torch.stack([item.map for item in others]),
    )
    assert len(assessment.figures) == 2
    for row, figures in enumerate(assessment.figures):
        assert [figure.metric for figure in figures] == [*NETWORK_METRICS, "top_overlap"]
        for figure in figures:
            assert figure.value == float(METRICS[figure.metric]().values(evidence)[row]), figure.metric
    assert assessment.figures[0][0].value != assessment.figures[1][0].value
    assert assessment.seconds > 0


def test_parameters_count(model: LoadedModel) -> None:
    """The same metric with two sets of parameters has two figures."""
    (figures, _) = asked(model, choice("insertion", steps=2), choice("insertion", steps=40)).figures
    assert [figure.parameters["steps"] for figure in figures] == [2, 40]
    assert figures[0].value != figures[1].value


def test_nothing_asked_for(model: LoadedModel) -> None:
    """No figure; and no pass through the network for the warning that needs none."""
    made, result = job(model)
    broken = dataclasses.replace(model, network=None)  # type: ignore[arg-type]
    assert assess(made, result, broken.network).figures == ((), ())
    prediction = worker_pb2.WorkRequest(image=worker_pb2.ImageWork(image=PHOTO, top_k=1))
    alone = prepare(prediction, model, Limits())
    assert assess(alone, ImageResult(torch.zeros(5), ()), model.network).figures == ()


def test_a_degenerate_map_has_no_figure(model: LoadedModel) -> None:
    """Its neighbour has; nothing is warned about twice."""
    made, result = job(model, choice("entropy"), choice("border_mass"))
    first, second = result.explanations
    constant = dataclasses.replace(first, map=torch.zeros_like(first.map), degenerate=True)
    assessment = assess(made, dataclasses.replace(result, explanations=(constant, second)), model.network)
    assert [figure.HasField("value") for figures in assessment.figures for figure in figures] == [False] * 2 + [
        True
    ] * 2
    assert constant.target not in [warning.target_index for warning in assessment.warnings]


@pytest.mark.parametrize(
    ("kind", "threshold", "beyond", "code"),
    [
        (Sensitivity, UNSTABLE_ABOVE, math.inf, types_pb2.WARNING_CODE_UNSTABLE),
        (BorderMass, BORDER_MASS_ABOVE, math.inf, types_pb2.WARNING_CODE_BORDER_MASS_HIGH),
        (RankCorrelation, DISAGREE_BELOW, -math.inf, types_pb2.WARNING_CODE_METHODS_DISAGREE),
    ],
)
def test_warnings(
    model: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Metric],
    threshold: float,
    beyond: float,
    code: int,
) -> None:
    """Of two targets, one exactly at the threshold and one just beyond it, the second one is warned about."""
    harmless = {Sensitivity: 0.0, BorderMass: 0.0, RankCorrelation: 1.0}
    figures = {each: [figure, figure] for each, figure in harmless.items()}
    figures[kind] = [threshold, math.nextafter(threshold, beyond)]
    for each, values in figures.items():
        monkeypatch.setattr(
            each, "_values", lambda *_arguments, values=values: torch.tensor(values, dtype=torch.float64)
        )
    assessment = asked(model, choice("max_sensitivity"), compare_with=FIRST_LAYER)
    assert [(warning.code, warning.target_index) for warning in assessment.warnings] == [(code, VISIBLE[1])]
    number = f"{threshold:g}" if kind is not BorderMass else "67%"
    assert number in assessment.warnings[0].message


def test_sensitivity_is_not_looked_at_unasked(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs explanations, unlike the border and the comparison."""
    monkeypatch.setattr(Sensitivity, "_values", lambda *_: pytest.fail("nobody asked for it"))
    asked(model, choice("average_drop"), compare_with=FIRST_LAYER)


def counting(metric: type[Metric], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows whenever a metric is computed."""
    calls: list[str] = []
    original = metric._values

    def counted(self: Metric, evidence: Evidence) -> Tensor:
        calls.append(self.name)
        return original(self, evidence)

    monkeypatch.setattr(metric, "_values", counted)
    return calls


class Clock:
    """A time that stands still until something is computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr("handlers.assess.time.time", lambda: self.now)

    def passes_at(self, function: Callable[..., Any], nth: int) -> Callable[..., Any]:
        """The function, during whose nth call an hour passes."""
        count = 0

        def slow(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == nth:
                self.now += 3600
            if count > nth:
                pytest.fail("went on after the deadline")
            return function(*arguments, **named)

        return slow


def test_the_deadline_passes_between_two_metrics(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is not computed any more."""
    clock = Clock(monkeypatch)
    made, result = job(model, choice("entropy"), choice("gini_sparseness"))
    made = dataclasses.replace(made, deadline=clock.now + 60)
    first = METRICS["entropy"]
    monkeypatch.setattr(first, "_values", clock.passes_at(first._values, 1))
    later = counting(METRICS["gini_sparseness"], monkeypatch)
    with pytest.raises(DeadlineError):
        assess(made, result, model.network)
    assert later == []


@pytest.mark.parametrize("name", ["insertion", "deletion", "infidelity", "negative_perturbation"])
def test_the_deadline_passes_within_a_metric(model: LoadedModel, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """After the part of the passes in which it passes nothing more goes through the network."""
    clock = Clock(monkeypatch)
    made, result = job(model, choice(name), targets=VISIBLE)
    made = dataclasses.replace(made, deadline=clock.now + 60)
    monkeypatch.setattr(model.network, "predict", clock.passes_at(model.network.predict, 2))
    with pytest.raises(DeadlineError):
        assess(made, result, model.network)


@pytest.mark.parametrize("method", [GRAD_CAM, OPTI_CAM])
def test_the_deadline_passes_while_a_map_is_made_again(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, method: method_pb2.Method
) -> None:
    """Between two explanations of max-sensitivity, and between two steps of a method that has steps."""
    clock = Clock(monkeypatch)
    made, result = job(model, choice("max_sensitivity", samples=50), method=method)
    made = dataclasses.replace(made, deadline=clock.now + 60)
    monkeypatch.setattr(model.network, "record", clock.passes_at(model.network.record, 1))
    with pytest.raises(DeadlineError):
        assess(made, result, model.network)


def test_the_deadline_passes_while_the_second_method_works(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of its steps; no metric is computed any more."""
    clock = Clock(monkeypatch)
    made, result = job(model, compare_with=OPTI_CAM)
    made = dataclasses.replace(made, deadline=clock.now + 60)
    monkeypatch.setattr(model.network, "record", clock.passes_at(model.network.record, 1))
    computed = counting(BorderMass, monkeypatch)
    with pytest.raises(DeadlineError):
        assess(made, result, model.network)
    assert computed == []


@dataclasses.dataclass(frozen=True)
class Failing(Metric):
    """Fails on red images."""

    name: ClassVar[str] = "failing"
    title: ClassVar[str] = "fails"
    formula: ClassVar[str] = "none"
    reference: ClassVar[str] = "none"
    direction: ClassVar[Direction] = "lower"

    def _values(self, evidence: Evidence) -> Tensor:
        raise ArithmeticError("patient Jane Doe")


def test_a_failing_metric_fails_its_own_item(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its neighbours in the batch get their answers, and what it says stays inside."""
    monkeypatch.setattr("handlers.metrics.OFFERED", {"failing": Failing, "average_drop": METRICS["average_drop"]})
    good = request(choice("average_drop"))
    white = request(choice("average_drop"), image=flat(255))
    bodies = [each.SerializeToString() for each in (good, request(choice("failing")), white, good)]
    answers = [worker_pb2.WorkResponse.FromString(body) for body in Worker(model, Limits()).answer(bodies)]
    ok, internal = worker_pb2.WORK_STATUS_OK, worker_pb2.WORK_STATUS_INTERNAL
    assert [answer.status for answer in answers] == [ok, internal, internal, ok]
    assert answers[1].message == "internal error"
    assert "Jane" not in caplog.text
    for answer in (answers[0], answers[3]):
        assert [len(item.quality) for item in answer.image.explanations] == [1, 1]
        assert answer.image.quality.ToNanoseconds() > 0


def test_a_late_item_says_so(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker answers DEADLINE_EXCEEDED, and the next item of the batch is answered."""
    late, good = request(choice("max_sensitivity", samples=1000)), request()
    late.deadline.FromNanoseconds(int((time.time() + 0.5) * 1e9))
    began = time.perf_counter()
    bodies = [each.SerializeToString() for each in (late, good)]
    answers = [worker_pb2.WorkResponse.FromString(body) for body in Worker(model, Limits()).answer(bodies)]
    assert time.perf_counter() - began < 2.5
    statuses = [answer.status for answer in answers]
    assert statuses == [worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED, worker_pb2.WORK_STATUS_OK]
