"""Names of folders and categories to class indices."""

from pathlib import Path

import pytest

from evaluation.errors import UsageError
from evaluation.names import read_names
from tests.evaluation.worlds import LABELS, names, write_json


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("ant", (0,)),
        ("ANT", (0,)),
        ("cat, house cat", (2,)),
        ("house_cat", (2,)),
        ("House-Cat", (2,)),
        ("cat", (2,)),
        ("3", (3,)),
        ("5", ()),
        ("dog", ()),
        ("", ()),
    ],
)
def test_a_name_is_a_label_a_synonym_or_an_index(name: str, classes: tuple[int, ...]) -> None:
    """Whatever people call their folders, it is found by one of these ways or not at all."""
    assert names().find(name) == classes


def test_a_name_of_two_classes_is_refused() -> None:
    """Nobody knows which crane is meant, until a mapping says so."""
    with pytest.raises(UsageError, match="3 and 4"):
        names().find("crane")
    assert names({"crane": (4,)}).find("crane") == (4,)


def test_a_mapping_comes_first_and_takes_every_form(tmp_path: Path) -> None:
    """An index, a label, or a list of them; also where a name is another class's label."""
    path = write_json(tmp_path / "map.json", {"bee": 0, "n01": "ant", "either": ["ant", 4]})
    found = read_names(LABELS, path)
    assert [found.find(name) for name in ("bee", "n01", "either", "ant")] == [(0,), (0,), (0, 4), (0,)]


def test_a_mapping_may_be_a_list_of_records(tmp_path: Path) -> None:
    """As the list of ImageNet's classes is often kept."""
    path = write_json(tmp_path / "map.json", [{"index": 3, "wnid": "n02", "name": "crane"}])
    assert read_names(LABELS, path).find("n02") == (3,)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"a": 5}, "no class 5"), ({"a": "dog"}, "no class 'dog'"), (["a"], "JSON object"), ({"a": True}, "no class")],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, content: object, message: str) -> None:
    """With what is wrong about it."""
    with pytest.raises(UsageError, match=message):
        read_names(LABELS, write_json(tmp_path / "map.json", content))
    with pytest.raises(UsageError, match="no file"):
        read_names(LABELS, tmp_path / "none.json")
