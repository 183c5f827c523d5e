"""Where promtool cannot be had, the tests say why instead of failing."""

from pathlib import Path

import pytest

from tests.deploy import prometheus_tools
from tests.deploy.prometheus_tools import ToolsMissingError, find_tools


@pytest.fixture
def nothing_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without the programs; gives a folder that is its whole PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(prometheus_tools, "UNPACKED", tmp_path / "build" / "prometheus")
    return programs


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_apt_the_reason_is_given(nothing_unpacked: Path) -> None:
    """The message names what is missing."""
    with pytest.raises(ToolsMissingError, match="no apt-get and no dpkg"):
        find_tools.__wrapped__()


def test_an_apt_that_fails_is_quoted(nothing_unpacked: Path) -> None:
    """The last line of what apt printed is the reason, and nothing half-made is left."""
    program(nothing_unpacked, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    program(nothing_unpacked, "dpkg", "exit 1")
    with pytest.raises(ToolsMissingError, match="Unable to locate package"):
        find_tools.__wrapped__()
    assert list(prometheus_tools.UNPACKED.parent.iterdir()) == []


def test_installed_programs_come_first(nothing_unpacked: Path) -> None:
    """Programs on PATH are used as they are."""
    for name in ("prometheus", "promtool"):
        program(nothing_unpacked, name, "exit 0")
    assert find_tools.__wrapped__().promtool == nothing_unpacked / "promtool"
