"""From Python values to requests."""

import pytest

from whylight_client import Method, Metric, TopK
from whylight_client.choices import ExplainOptions, explain_request, from_method


def asked(**options: object):
    return explain_request(b"image", "tiny", ExplainOptions(**options))  # type: ignore[typeddict-item]


def test_without_options_it_is_grad_cam_of_the_predicted_class() -> None:
    """Everything else is left to the service's defaults."""
    request = asked()
    assert [field.name for field, _ in request.ListFields()] == ["model", "image", "method"]
    assert request.method.WhichOneof("method") == "grad_cam"


def test_a_method_has_its_parameters_beside_it_or_in_it() -> None:
    """Both ways make the same request; a list may be one word."""
    beside = asked(method="opti_cam", parameters={"steps": 20, "learning_rate": 0.5, "preset": "fast"})
    assert beside == asked(method=Method("opti_cam", {"steps": 20, "learning_rate": 0.5, "preset": "fast"}))
    assert beside.method.opti_cam.steps == 20
    fused = asked(method=Method("layer_cam", {"further_layers": ["a", "b"]}))
    assert list(fused.method.layer_cam.further_layers) == ["a", "b"]
    assert list(asked(method=Method("layer_cam", {"further_layers": "a"})).method.layer_cam.further_layers) == ["a"]


def test_the_method_of_an_answer_can_be_asked_for_again() -> None:
    """There and back."""
    request = asked(method=Method("layer_cam", {"layer": "c", "further_layers": ["a", "b"]}))
    again = from_method(request.method)
    assert again == Method("layer_cam", {"layer": "c", "further_layers": ("a", "b")})
    assert asked(method=again) == request


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "magic"}, ValueError, "no method 'magic'; there are: ablation_cam, "),
        ({"parameters": {"depth": 3}}, ValueError, "no parameter 'depth' of grad_cam; there are: layer"),
        ({"method": "cam", "parameters": {"depth": 3}}, ValueError, "there are: none"),
        ({"method": "opti_cam", "parameters": {"steps": "many"}}, TypeError, "'many' is no value for the parameter"),
        ({"method": "opti_cam", "parameters": {"steps": -1}}, TypeError, "-1 is no value"),
        ({"method": Method("cam"), "parameters": {"layer": "a"}}, ValueError, "itself"),
        ({"quality": "average_drop"}, TypeError, "list of metrics"),
        ({"targets": 1.5}, TypeError, "integer"),
        ({"targets": [-1]}, ValueError, "0 or more"),
        ({"target": 3}, TypeError, "no option 'target'; there are: method, parameters, targets"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    """With what there is to choose."""
    with pytest.raises(error, match=words):
        asked(**options)


def test_targets_are_indices_labels_or_the_most_probable() -> None:
    """One of them, or several."""
    assert asked(targets=TopK(2)).targets.top_k == 2
    for targets, expected in ((3, [3]), ("cat", ["cat"]), ([0, "dog"], [0, "dog"])):
        references = asked(targets=targets).targets.classes.classes
        assert [getattr(each, each.WhichOneof("reference")) for each in references] == expected


def test_quality_is_metrics_with_or_without_parameters() -> None:
    """And a second method to compare with."""
    quality = asked(
        quality=["average_drop", Metric("insertion", {"steps": 28, "baseline": "black", "exact": True})],
        compare_with=Method("rise", {"samples": 10}),
    ).quality
    assert [each.name for each in quality.metrics] == ["average_drop", "insertion"]
    assert dict(quality.metrics[1].parameters.items()) == {"steps": 28, "baseline": "black", "exact": True}
    assert quality.compare_with.rise.samples == 10


def test_the_switches_reach_the_request() -> None:
    """Each under the name that the protocol has for it."""
    request = asked(top_k=3, model_version="2", allow_partial=True, use_cache=False)
    assert (request.top_k, request.model_version, request.allow_partial, request.no_cache) == (3, "2", True, True)
