"""The commands that pages show exist: `whylight` with its options, `make` with its targets, modules and scripts."""

import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from service.cli import app
from service.plugins import add_commands
from tests.docs.pages import ROOT, name_of, shell_lines

OTHERS = ("kubectl ",)  # to them, our names are those of things
SEPARATORS = {"|", "||", "&&", ";", ">", ">>", "<", "2>", "&"}
LINES = [(page, line) for page, line in shell_lines() if line]


def words_after(line: str, program: str) -> list[list[str]]:
    """The arguments of each call of a program in a line of shell."""
    if line.startswith(OTHERS) or not re.search(rf"\b{program}\b", line):
        return []
    split = shlex.shlex(
        line.replace("$(", " ").replace("`", " ").replace(")", " "), posix=True, punctuation_chars="|&;<>"
    )
    split.whitespace_split = True
    calls: list[list[str]] = []
    call: list[str] | None = None
    for word in split:
        if word in SEPARATORS:
            call = None
        elif call is not None:
            call.append(word)
        elif word.rpartition("/")[2] == program:
            call = []
            calls.append(call)
    return calls


@cache
def root_command() -> TyperGroup:
    """`whylight` with what other packages add to it."""
    add_commands(app)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    return command


def refusal(words: list[str]) -> str | None:
    """What is wrong with the arguments of `whylight`; None when nothing is. Values are not looked at."""
    command = root_command()
    words = list(words)
    while isinstance(command, TyperGroup):
        if not words:
            return "a command is missing"
        found = command.commands.get(words.pop(0))
        if found is None:
            return "no such command"
        command = found
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    return f"no such option: {', '.join(unknown)}" if unknown else None


WHYLIGHT = [(page, words) for page, line in LINES for words in words_after(line, "whylight")]
MAKE = [(page, words) for page, line in LINES for words in words_after(line, "make")]
PYTHON = [(page, words) for page, line in LINES for words in words_after(line, "python")]


@pytest.mark.parametrize(
    ("page", "words"), WHYLIGHT, ids=lambda each: name_of(each) if isinstance(each, Path) else None
)
def test_whylight_commands_exist(page: Path, words: list[str]) -> None:
    """Each with all of its options."""
    assert refusal(words) is None, f"{name_of(page)}: whylight {shlex.join(words)}"


@pytest.mark.parametrize("words", [[], ["explian"], ["explain", "--modell"], ["job", "wiat"], ["job", "list", "--all"]])
def test_wrong_commands_are_seen(words: list[str]) -> None:
    """The check above would tell."""
    assert refusal(words) is not None


def test_calls_are_found() -> None:
    """Behind assignments, in substitutions, in pipes."""
    line = "A=b name=$(whylight job create p.jpg --model 'a b') && .venv/bin/whylight job wait \"$name\" | cat"
    assert words_after(line, "whylight") == [
        ["job", "create", "p.jpg", "--model", "a b"], ["job", "wait", "$name"],
    ]  # fmt: skip
    assert len(WHYLIGHT) > 30
    assert len(MAKE) > 5


def test_make_targets_exist() -> None:
    """All that pages name."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page, words in MAKE:
        named = [word for word in words if not re.match(r"-|\w+=", word)]
        assert set(named) <= targets, f"{name_of(page)}: make {shlex.join(words)}"


def test_named_make_targets_exist() -> None:
    """Those in the middle of a sentence, too."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in sorted({page for page, _ in LINES}):
        for named in re.findall(r"`make ([a-z -]+)`", page.read_text(encoding="utf-8")):
            assert set(named.split()) <= targets, f"{name_of(page)}: make {named}"


def test_modules_and_scripts_exist() -> None:
    """What `python` is told to run is there."""
    for page, words in PYTHON:
        if words[:1] == ["-m"]:
            name = words[1]
            assert importlib.util.find_spec(name) is not None, f"{name_of(page)}: python -m {name}"
        elif words and words[0].endswith(".py") and "/" in words[0]:
            assert (ROOT / words[0]).is_file(), f"{name_of(page)}: python {words[0]}"
