"""Commands of other packages."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import typer
from typer.testing import CliRunner

from service.plugins import GROUP, add_commands


def hello(name: str = "you") -> None:
    """Say hello."""
    typer.echo(f"hello {name}")


def app(*points: EntryPoint) -> typer.Typer:
    program = typer.Typer()

    @program.command()
    def own() -> None:
        """Be there."""

    add_commands(program, points)
    return program


HELLO = EntryPoint("hello", f"{__name__}:hello", GROUP)


def test_a_command_of_another_package_is_a_command() -> None:
    """With its options and its help."""
    sys.modules[__name__].hello = hello  # type: ignore[attr-defined]
    result = CliRunner().invoke(app(HELLO), ["hello", "--name", "her"])
    assert (result.exit_code, result.output) == (0, "hello her\n")
    assert "Say hello" in CliRunner().invoke(app(HELLO), ["--help"]).output


def test_a_command_that_cannot_be_loaded_says_what_to_install() -> None:
    """In one line, when it is called; the other commands work."""
    broken = EntryPoint("broken", "no_such_module_anywhere:run", GROUP)
    result = CliRunner().invoke(app(HELLO, broken), ["broken", "--model", "x", "rest"])
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert "no_such_module_anywhere" in line
    assert "pip install 'whylight[worker]'" in line
    assert CliRunner().invoke(app(HELLO, broken), ["hello"]).exit_code == 0


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from importlib.metadata import EntryPoint
import typer
from service.plugins import add_commands
app = typer.Typer()
app.command("own")(lambda: None)
add_commands(app, [EntryPoint("evaluate", "evaluation.cli:evaluate", "whylight.commands")])
app(["evaluate", "--model", "digits-cnn", "--data", "digits"])
"""


def test_evaluate_without_the_worker_extra_says_what_to_install() -> None:
    """The command is there, and asks for torch in one line instead of a traceback."""
    result = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert result.returncode == 1
    assert (
        result.stderr.strip() == "torch is not installed; evaluation needs the networks: pip install 'whylight[worker]'"
    )


def test_the_commands_are_declared() -> None:
    """pyproject.toml names the functions that there are."""
    import tomllib
    from pathlib import Path

    from evaluation.cli import evaluate
    from onboarding.cli import model

    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    points = [EntryPoint(name, value, GROUP) for name, value in project["entry-points"][GROUP].items()]
    assert {point.name: point.load() for point in points} == {"evaluate": evaluate, "model": model}


def test_a_group_of_commands() -> None:
    """A package may bring several under one name."""
    group = typer.Typer()
    group.command()(hello)
    group.command("again")(hello)
    sys.modules[__name__].group = group  # type: ignore[attr-defined]
    point = EntryPoint("say", f"{__name__}:group", GROUP)
    assert CliRunner().invoke(app(point), ["say", "hello"]).output == "hello you\n"
