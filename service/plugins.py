"""Further commands of `whylight`, from packages that the service must not import: they may need torch."""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points

import typer
from rich.console import Console

GROUP = "whylight.commands"
ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_commands(app: typer.Typer, points: Iterable[EntryPoint] | None = None) -> None:
    """Add the commands of installed packages; one that can't be loaded says so when it is called, and only then.

    Args:
        app: to add to.
        points: entry points; those of the group `whylight.commands` when not given.
    """
    for point in sorted(entry_points(group=GROUP) if points is None else points, key=lambda each: each.name):
        try:
            command = point.load()
        except ImportError as error:
            stand_in = _stand_in(point.name, error.name or str(error))
            app.command(point.name, context_settings=ANY_ARGUMENTS, help="Not available here.")(stand_in)
        else:
            _add(app, point.name, command)


def _add(app: typer.Typer, name: str, command: Callable[..., None] | typer.Typer) -> None:
    """One command, or a group of them."""
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _stand_in(name: str, missing: str) -> Callable[[], None]:
    def refuse() -> None:
        text = f"`whylight {name}` needs {missing}, which is not installed: pip install 'whylight[worker]'"
        Console(stderr=True).print(text, style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1)

    return refuse
