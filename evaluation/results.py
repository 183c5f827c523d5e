"""What was found so far, one line for each image and method: a run that was cut off goes on where it was."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from evaluation.backend import Outcome
from evaluation.errors import EvaluationError, UsageError

RESULTS = "results.jsonl"
SETTINGS = "settings.json"

Line = dict[str, Any]


@dataclass(eq=False)
class Results:
    """The lines of a folder, in memory and in its file."""

    _file: IO[bytes]
    _lines: dict[tuple[str, str], Line] = field(default_factory=dict)

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether there is a line for (image, method)."""
        return key in self._lines

    def lines(self, method: str) -> list[Line]:
        """The lines of a method, sorted by image: the order in which they were found doesn't count."""
        return [line for (_, name), line in sorted(self._lines.items()) if name == method]

    def add(self, item: str, method: str, outcome: Outcome) -> None:
        """Note what a method gave for an image."""
        self._write({"item": item, "method": method, **asdict(outcome)})

    def add_failure(self, item: str, method: str, error: str) -> None:
        """Note that an image can't be evaluated."""
        self._write({"item": item, "method": method, "error": error})

    def _write(self, line: Line) -> None:
        # One call of the system for the whole line: what is cut off is at most the last line.
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        self._lines[line["item"], line["method"]] = line


@contextmanager
def open_results(folder: Path, settings: Mapping[str, Any], *, fresh: bool = False) -> Iterator[Results]:
    """The results of a folder, which is made where there is none.

    Args:
        folder: of one evaluation.
        settings: all that figures depend on, as JSON; methods may be added to `methods`.
        fresh: throw away what was found before.

    Raises:
        UsageError: the folder holds results of other settings, or can't be written.
        EvaluationError: the results are damaged, or another run is writing them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / RESULTS).open("ab+")
    except OSError as error:
        raise UsageError(f"{folder} can't be written: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvaluationError(f"another run is writing to {folder}") from None
        if fresh:
            file.truncate(0)
            (folder / SETTINGS).unlink(missing_ok=True)
        _agree(folder / SETTINGS, settings)
        yield Results(file, _read(file))


def _agree(path: Path, settings: Mapping[str, Any]) -> None:
    """Compare with the settings of the results that are there, and add new methods to them."""
    wanted = json.loads(json.dumps(settings))  # as it will be read again
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            changed = [key for key in {**found, **wanted} if key != "methods" and found.get(key) != wanted.get(key)]
            methods: dict[str, Any] = found["methods"]
        except (ValueError, KeyError, AttributeError):
            raise EvaluationError(f"{path} is damaged: use --fresh or another --output") from None
        if any(methods.get(key, value) != value for key, value in wanted["methods"].items()):
            changed.append("methods")
        if changed:
            raise UsageError(
                f"{path.parent} holds results of other settings ({', '.join(sorted(changed))}): "
                "use --fresh or another --output"
            )
        wanted["methods"] = {**methods, **wanted["methods"]}
    write_text(path, json.dumps(wanted, indent=1) + "\n")


def _read(file: IO[bytes]) -> dict[tuple[str, str], Line]:
    """Every whole line; a last one that was cut off is removed."""
    file.seek(0)
    lines: dict[tuple[str, str], Line] = {}
    end = 0
    for number, text in enumerate(file, start=1):
        if not text.endswith(b"\n"):
            break
        try:
            line = json.loads(text)
            lines[line["item"], line["method"]] = line
        except (ValueError, KeyError, TypeError):
            raise EvaluationError(f"line {number} of {RESULTS} is damaged: use --fresh or another --output") from None
        end += len(text)
    file.truncate(end)
    file.seek(end)
    return lines


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
