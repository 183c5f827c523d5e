"""From words on the command line to requests."""

import pytest

from service.client import CallError, build_method, build_targets


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
