"""From words on the command line to requests."""

import pytest

from service.client import CallError, build_method, build_quality, build_targets


def test_parameters_are_set_by_name() -> None:
    """name=value sets the field of the method's message."""
    assert build_method("grad_cam", ["layer=layer3"]).grad_cam.layer == "layer3"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["further_layers=stem,stage.0"], ["stem", "stage.0"]),
        (["further_layers=stem", "layer=head", "further_layers=stage.0"], ["stem", "stage.0"]),
    ],
)
def test_a_list_is_written_with_commas_or_one_entry_at_a_time(texts: list[str], expected: list[str]) -> None:
    """Entries keep their order."""
    assert list(build_method("layer_cam", texts).layer_cam.further_layers) == expected


def test_the_known_parameters_show_which_is_a_list() -> None:
    """The error about a wrong name says how to write each."""
    with pytest.raises(CallError, match=r"layer=\.\.\., further_layers=\.\.\.,\.\.\."):
        build_method("layer_cam", ["layers=a"])


def test_a_method_without_parameters_is_still_chosen() -> None:
    """An empty message is a choice too."""
    assert build_method("cam", []).WhichOneof("method") == "cam"


@pytest.mark.parametrize(("name", "parameters"), [("magic", []), ("grad_cam", ["depth=3"]), ("grad_cam", ["layer"])])
def test_unknown_names_are_refused_with_the_known_ones(name: str, parameters: list[str]) -> None:
    """A wrong method or parameter is an error that lists what there is."""
    with pytest.raises(CallError, match="there are: "):
        build_method(name, parameters)


def test_targets_are_indices_labels_or_the_most_probable() -> None:
    """Digits are an index, other words a label; nothing at all leaves the choice to the service."""
    targets = build_targets(["3", "tabby"], None)
    assert targets is not None
    assert [reference.WhichOneof("reference") for reference in targets.classes.classes] == ["index", "label"]
    assert build_targets([], 2).top_k == 2  # type: ignore[union-attr]
    assert build_targets([], None) is None


def test_metrics_with_and_without_parameters() -> None:
    """After the name and a colon: truth values, numbers and text, as a Struct has them."""
    options = build_quality(
        ["average_drop", "insertion:steps=28,baseline=black", "infidelity:rescale=False,size=5e-1"], None
    )
    assert options is not None
    assert [metric.name for metric in options.metrics] == ["average_drop", "insertion", "infidelity"]
    assert [dict(metric.parameters.items()) for metric in options.metrics] == [
        {},
        {"steps": 28.0, "baseline": "black"},
        {"rescale": False, "size": 0.5},
    ]
    assert not options.HasField("compare_with")


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "", "a=b", "blur:x"])
def test_what_is_no_finite_number_is_text(text: str) -> None:
    """The service says what is wrong with it."""
    options = build_quality([f"insertion:baseline={text}"], None)
    assert options is not None
    assert options.metrics[0].parameters["baseline"] == text


def test_a_second_method_in_the_same_way() -> None:
    """By name, with parameters of its own."""
    options = build_quality([], "grad_cam:layer=layer3")
    assert options is not None
    assert options.compare_with.grad_cam.layer == "layer3"
    assert not options.metrics
    assert build_quality([], None) is None


@pytest.mark.parametrize(
    ("metrics", "compare_with", "message"),
    [
        (["insertion:steps"], None, "insertion:steps=..."),
        ([], "magic", "no method"),
        ([], "grad_cam:depth=3", "no parameter"),
    ],
)
def test_mistakes_are_told(metrics: list[str], compare_with: str | None, message: str) -> None:
    """Before the service is asked."""
    with pytest.raises(CallError, match=message):
        build_quality(metrics, compare_with)
