"""What the metrics record, and what they refuse."""

import math

import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.worker.v1 import worker_pb2
from service.metrics import Metrics
from service.observation import Observation
from service.quality_metrics import FIGURES, OUTCOMES
from tests.service.fakes import MODEL, front, prediction
from tests.service.test_front import explain

LABELS = {"model": "cats", "version": "2", "method": "grad_cam"}
WHERE = tuple(LABELS.values())
GOOD = {"average_drop": 0.25, "average_gain": 0.5, "insertion_auc": 0.75, "deletion_auc": 0.125, "score_increase": 1.0}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def samples(metrics: Metrics) -> dict[str, float | None]:
    return {each: value(metrics, "explain_quality_samples_total", **LABELS, outcome=each) for each in OUTCOMES}


def finished(rpc: str) -> Metrics:
    metrics = Metrics()
    metrics.finished(Observation("id", rpc, "cats", "grad_cam", {"admission": 0.1, "compute": 0.2}), "OK")
    return metrics


@pytest.mark.parametrize(("rpc", "expected"), [("Explain", 1.0), ("Predict", None)])
def test_the_alias_times_explanations_alone(rpc: str, expected: float | None) -> None:
    """`request_explain_seconds` has the time of Explain, the same as the general histogram, and of nothing else."""
    metrics = finished(rpc)
    assert value(metrics, "request_explain_seconds_count", model="cats", method="grad_cam") == expected
    general = value(metrics, "whylight_request_duration_seconds_sum", rpc=rpc, model="cats", method="grad_cam")
    if expected:
        assert value(metrics, "request_explain_seconds_sum", model="cats", method="grad_cam") == general


def test_figures_of_a_sample_go_to_their_histograms() -> None:
    """Every figure is observed once under model, version and method, and the sample is counted as measured."""
    metrics = Metrics()
    metrics.quality.measured(*WHERE, GOOD)
    for name in FIGURES:
        assert value(metrics, f"explain_quality_{name}_ratio_sum", **LABELS) == GOOD[name]
        assert value(metrics, f"explain_quality_{name}_ratio_count", **LABELS) == 1
    assert value(metrics, "explain_quality_score_increase_total", **LABELS) == 1
    assert samples(metrics) == {"measured": 1, "degenerate": 0, "skipped": 0, "failed": 0}


def test_a_score_that_did_not_increase_starts_the_counter_at_zero() -> None:
    """The share of increases is 0, not unknown, while there were none."""
    metrics = Metrics()
    metrics.quality.measured(*WHERE, {"score_increase": 0})
    assert value(metrics, "explain_quality_score_increase_total", **LABELS) == 0
    assert value(metrics, "explain_quality_average_drop_ratio_count", **LABELS) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"average_drop": math.nan},
        {"average_gain": math.inf},
        {"insertion_auc": 1.01},
        {"deletion_auc": -0.01},
        {"score_increase": 0.5},
        {"mean_drop": 0.5},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_figure_is_refused_before_anything_is_recorded(wrong: dict[str, float]) -> None:
    """One bad value leaves no trace of its sample: a NaN would spoil the sum until the next restart."""
    metrics = Metrics()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        metrics.quality.measured(*WHERE, {**GOOD, **wrong})
    assert value(metrics, "explain_quality_average_drop_ratio_count", **LABELS) is None
    assert value(metrics, "explain_quality_samples_total", **LABELS, outcome="measured") is None


def test_rounding_at_the_ends_is_forgiven() -> None:
    """A trapezoid sum a hair outside of [0, 1] counts as the end itself."""
    metrics = Metrics()
    metrics.quality.measured(*WHERE, {"insertion_auc": 1.0 + 1e-9, "deletion_auc": -1e-9})
    assert value(metrics, "explain_quality_insertion_auc_ratio_sum", **LABELS) == 1
    assert value(metrics, "explain_quality_insertion_auc_ratio_bucket", **LABELS, le="1.0") == 1
    assert value(metrics, "explain_quality_deletion_auc_ratio_bucket", **LABELS, le="0.0") == 1


def test_other_outcomes_and_the_cost_of_samples_are_counted() -> None:
    """Each outcome has its series, all from the first sample on, and the seconds add up."""
    metrics = Metrics()
    for outcome in OUTCOMES[1:]:
        metrics.quality.sampled(*WHERE, outcome)
    metrics.quality.spent(*WHERE, 1.5)
    metrics.quality.spent(*WHERE, 0.25)
    assert samples(metrics) == {"measured": 0, "degenerate": 1, "skipped": 1, "failed": 1}
    assert value(metrics, "explain_quality_worker_seconds_total", **LABELS) == 1.75
    with pytest.raises(ValueError, match="outcome"):
        metrics.quality.sampled(*WHERE, "lost")


def test_the_last_randomisation_check_is_shown() -> None:
    """The gauge holds the last correlation, and refuses what is none."""
    metrics = Metrics()
    for correlation in (0.9, -0.1):
        metrics.quality.randomised(*WHERE, correlation)
    for wrong in (1.5, math.nan):
        with pytest.raises(ValueError, match="correlation"):
            metrics.quality.randomised(*WHERE, wrong)
    assert value(metrics, "explain_quality_randomisation_rank_correlation", **LABELS) == -0.1


def with_one_good_map(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    response = prediction(request)
    response.image.explanations[0].map.degenerate = False
    return response


async def test_maps_in_answers_are_counted_with_the_constant_ones() -> None:
    """Two maps, of which one is constant, count under the model's version, and under the older name besides."""
    classes = api.ClassList(classes=[api.ClassReference(index=index) for index in (0, 1)])
    async with front() as service:
        service.worker.answer = with_one_good_map
        await service.stub.Explain(explain(targets=api.Targets(classes=classes)))
        labels = {"model": MODEL, "version": "1.0", "method": "grad_cam"}
        assert value(service.metrics, "explain_quality_maps_total", **labels) == 2
        assert value(service.metrics, "explain_quality_degenerate_maps_total", **labels) == 1
        assert value(service.metrics, "whylight_degenerate_maps_total", model=MODEL, method="grad_cam") == 1


async def test_a_queue_has_its_series_before_anybody_waits() -> None:
    """Capacity and length are there from the first look at the workers on, so a dashboard shows 0 and not nothing."""
    async with front(queue_size=7) as service:
        assert value(service.metrics, "whylight_queue_capacity", lane="predict") == 7
        assert value(service.metrics, "whylight_queue_length", model=MODEL, lane="predict") == 0
        assert value(service.metrics, "whylight_in_flight", model=MODEL, lane="predict") == 0
