"""Methods and metrics in text form."""

import pytest

from evaluation.choices import DEFAULT_METRICS, parse_methods, parse_metrics
from evaluation.errors import UsageError
from explainers import METHODS, GradCam, OptiCam
from quality import METRICS, AverageDrop, Insertion


def test_parameters_follow_colons() -> None:
    """Of every kind; several texts are one list."""
    found = parse_methods(["opti_cam:preset=fast:steps=5", "grad_cam, grad_cam:layer=a.b"])
    assert list(found) == ["opti_cam:preset=fast:steps=5", "grad_cam", "grad_cam:layer=a.b"]
    assert list(found.values()) == [OptiCam(preset="fast", steps=5), GradCam(), GradCam(layer="a.b")]
    metrics = parse_metrics(["insertion:steps=56:baseline=black,infidelity:rescale=false:size=0.5"])
    assert metrics["insertion:steps=56:baseline=black"] == Insertion(steps=56, baseline="black")
    assert metrics["infidelity:rescale=false:size=0.5"] == METRICS["infidelity"](rescale=False, size=0.5)  # type: ignore[call-arg]


def test_all_means_each_with_its_defaults() -> None:
    """Besides, others may be named."""
    assert list(parse_methods(["all"])) == list(METHODS)
    assert list(parse_methods(["all,grad_cam:layer=x"])) == [*METHODS, "grad_cam:layer=x"]


def test_the_default_metrics_exist() -> None:
    """Under their names."""
    assert parse_metrics(DEFAULT_METRICS)["average_drop"] == AverageDrop()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "no method 'nope'; there are: ablation_cam"),
        ("grad_cam:nope=1", "no parameter 'nope=1' of grad_cam; there are: layer="),
        ("grad_cam:layer", "no parameter 'layer'"),
        ("opti_cam:steps=many", "'many' is no value for steps of opti_cam"),
        ("opti_cam:steps=0", "opti_cam: steps must be"),
        ("opti_cam:preset=slow", "opti_cam: preset must be one of"),
        ("grad_cam,gradient,grad_cam", "grad_cam is named twice"),
        ("", "name at least one method"),
    ],
)
def test_what_does_not_exist_is_refused(text: str, message: str) -> None:
    """With what there is."""
    with pytest.raises(UsageError, match=message):
        parse_methods([text])
