"""A run that is cut off goes on where it was, and never mixes settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation.backend import Plan, Value
from evaluation.choices import parse_methods, parse_metrics
from evaluation.errors import EvaluationError, UsageError
from evaluation.report import make_report
from evaluation.results import RESULTS, SETTINGS, Results, open_results
from evaluation.runner import run
from evaluation.tables import to_csv, to_json
from tests.evaluation.worlds import Clockwork, numbered

PLAN = Plan(parse_methods(["grad_cam,gradient"]), parse_metrics(["entropy"]))
SETTINGS_NOW: dict[str, Any] = {
    "model": {"name": "clock", "version": "1"},
    "data": {"name": "numbers", "images": 7},
    "methods": {"grad_cam": {"layer": None}, "gradient": {}},
}


def value(method: str, number: int) -> Sequence[Value]:
    """Two maps an image; one of them is not defined on every third."""
    first = number / 7 + (0.1 if method == "gradient" else 0)
    return [first, None if number % 3 == 0 else 1 / (1 + number)]


def evaluate(folder: Path, backend: Clockwork, count: int = 7, batch: int = 3, **options: Any) -> tuple[str, Any]:
    """A whole run; its table as CSV and as JSON."""
    with open_results(folder, options.get("settings", SETTINGS_NOW), fresh=options.get("fresh", False)) as results:
        run(PLAN, backend, numbered(count), results, batch=batch, advance=lambda method, images: None)
        report = make_report(PLAN, SETTINGS_NOW, results)
    return to_csv(report), to_json(report)


@pytest.mark.parametrize("lines", range(15))
@pytest.mark.parametrize("rest", [b"", b'{"item": "3", "meth', b'{"item": "3", "method": "gradient"}'])
def test_a_run_that_was_cut_off_gives_the_same_table(tmp_path: Path, lines: int, rest: bytes) -> None:
    """After any number of lines, also within a line or before its end: nothing is lost, doubled or computed anew."""
    whole = evaluate(tmp_path / "whole", Clockwork(value, broken=[4]))
    path = tmp_path / "cut" / RESULTS
    evaluate(tmp_path / "cut", Clockwork(value, broken=[4]))
    kept = path.read_bytes().splitlines(keepends=True)
    assert len(kept) == 14
    path.write_bytes(b"".join(kept[:lines]) + rest)
    backend = Clockwork(value, broken=[4])
    assert evaluate(tmp_path / "cut", backend) == whole
    assert sorted(path.read_bytes().splitlines()) == sorted((tmp_path / "whole" / RESULTS).read_bytes().splitlines())
    batches = [("0", "1", "2"), ("3", "4", "5"), ("6",)]  # of 6, 6 and 2 lines
    assert backend.batches == batches[0 if lines < 6 else 1 if lines < 12 else 2 if lines < 14 else 3 :]


def test_a_run_that_is_stopped_keeps_what_it_had(tmp_path: Path) -> None:
    """Ctrl-C in the middle: every finished batch of a method is in the file, and the rest is done later."""

    def interrupted(method: str, number: int) -> Sequence[Value]:
        if (method, number) == ("gradient", 4):
            raise KeyboardInterrupt
        return value(method, number)

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "cut", Clockwork(interrupted))
    assert len((tmp_path / "cut" / RESULTS).read_bytes().splitlines()) == 9
    assert evaluate(tmp_path / "cut", Clockwork(value)) == evaluate(tmp_path / "whole", Clockwork(value))


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {"name": "clock", "version": "2"}},
        {"data": {"name": "numbers", "images": 8}},
        {"methods": {"grad_cam": {"layer": "last"}, "gradient": {}}},
        {"target": "predicted"},
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    """With what changed; the results stay as they are, unless a fresh start is asked for."""
    evaluate(tmp_path, Clockwork(value))
    before = (tmp_path / RESULTS).read_bytes(), (tmp_path / SETTINGS).read_bytes()
    settings = {**SETTINGS_NOW, **changed}
    with pytest.raises(UsageError, match=rf"\({next(iter(changed))}\): use --fresh"):
        evaluate(tmp_path, Clockwork(value), settings=settings)
    assert ((tmp_path / RESULTS).read_bytes(), (tmp_path / SETTINGS).read_bytes()) == before
    backend = Clockwork(value)
    evaluate(tmp_path, backend, settings=settings, fresh=True)
    assert len(backend.batches) == 3


def test_methods_may_be_added(tmp_path: Path) -> None:
    """They change no figure of the others; the settings then hold all of them."""
    with open_results(tmp_path, {**SETTINGS_NOW, "methods": {"grad_cam": {"layer": None}}}) as results:
        results.add_failure("0", "grad_cam", "unreadable")
    with open_results(tmp_path, {**SETTINGS_NOW, "methods": {"gradient": {}}}) as results:
        assert ("0", "grad_cam") in results
    with (
        pytest.raises(UsageError, match="methods"),
        open_results(tmp_path, {**SETTINGS_NOW, "methods": {"gradient": 1}}),
    ):
        pass
    with (
        pytest.raises(UsageError, match="methods"),
        open_results(tmp_path, {**SETTINGS_NOW, "methods": {"grad_cam": {"layer": "x"}}}),
    ):
        pass


def test_damage_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    """Only the last line can have been cut off; anything else is named."""
    evaluate(tmp_path, Clockwork(value))
    lines = (tmp_path / RESULTS).read_bytes().splitlines(keepends=True)
    (tmp_path / RESULTS).write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(EvaluationError, match="line 2"):
        evaluate(tmp_path, Clockwork(value))
    (tmp_path / SETTINGS).write_text("{")
    with pytest.raises(EvaluationError, match="damaged"):
        evaluate(tmp_path, Clockwork(value))


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    """The second one is refused while the first is running."""
    with (
        open_results(tmp_path, SETTINGS_NOW) as results,
        pytest.raises(EvaluationError, match="another run"),
        open_results(tmp_path, SETTINGS_NOW),
    ):
        pass
    assert isinstance(results, Results)
    with open_results(tmp_path, SETTINGS_NOW):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """There is a file in its place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be written"), open_results(tmp_path / "file", SETTINGS_NOW):
        pass
