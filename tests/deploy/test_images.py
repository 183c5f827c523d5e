"""The Dockerfiles: linted, pinned, built from the lock, and run by nobody."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.containers import DOCKERFILES, OWN_USER, program
from tests.deploy.prometheus_tools import ROOT

FILES = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)


def last_stage(path: Path) -> str:
    return "FROM " + path.read_text().rpartition("\nFROM ")[2]


def test_there_are_two() -> None:
    """The service's, and the worker's for processors and GPUs."""
    assert [path.stem for path in DOCKERFILES] == ["service", "worker"]


@FILES
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    """Not even a hint."""
    done = subprocess.run([program("hadolint"), path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@FILES
def test_stages_begin_with_the_same_pinned_python(path: Path) -> None:
    """To the patch release, and no registry is named."""
    bases = re.findall(r"^FROM (\S+)", path.read_text(), re.MULTILINE)
    assert set(bases) == {"python:3.11.14-slim-bookworm"}


@FILES
def test_packages_come_from_the_lock(path: Path) -> None:
    """Each installation goes by constraints.txt, setuptools as well; pip is not in the image."""
    text = path.read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install[^&;\n]*", text)
    assert installs
    assert all("-c constraints.txt" in each for each in installs)
    assert re.search(r"""--no-build-isolation ('\.\[\w+\]'|"\.\[\$\{EXTRAS\}\]")""", text)
    assert "setuptools==" in (ROOT / "constraints.txt").read_text()
    assert re.search(r"pip uninstall --yes .*pip", text)


@FILES
def test_the_image_runs_as_nobody(path: Path) -> None:
    """The last word on the user, and it comes after the last that needs root; signals reach the program itself."""
    stage = last_stage(path)
    assert re.findall(r"^USER (\S+)", stage, re.MULTILINE) == [OWN_USER]
    assert not re.search(r"^(RUN|COPY)", stage.partition("\nUSER ")[2], re.MULTILINE)
    assert 'ENTRYPOINT ["whylight"]' in stage
    assert "--uid 10001 --gid 10001" in stage


def test_the_service_has_no_torch() -> None:
    """The build itself fails where it would come in."""
    text = DOCKERFILES[0].read_text()
    assert "assert not find_spec('torch')" in text
    assert "[worker]" not in text


def test_torch_comes_first_in_the_worker() -> None:
    """Else something else would bring the build that it likes."""
    text = DOCKERFILES[1].read_text()
    assert text.index('"$TORCH_INDEX"} torch') < text.index('".[${EXTRAS}]"')


def test_only_what_the_images_are_made_of_is_sent_to_the_engine() -> None:
    """All else, secrets among it, is left out; what the packages need is there."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "scripts", "tests"}
    assert sent == packages | {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
