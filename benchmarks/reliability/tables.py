"""Tables, and the document that they go into."""

import os
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.reliability.account import Account
from benchmarks.reliability.calls import End
from benchmarks.timing import machine

_PACKAGES = ("torchserve", "grpcio", "aiohttp")


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def counts(accounts: Mapping[str, Account], *, gone: Collection[str] = ()) -> str:
    """How the calls of each run ended; `gone` are the runs in which the service itself was away."""
    head = ["", "calls", *End, "doubled", "broke the promise"]
    rows = [
        [name, each.total, *(each.ends[end] for end in End), each.doubled, each.failures(gone=name in gone)]
        for name, each in accounts.items()
    ]
    reasons = [f"{name}: {why(each)}." for name, each in accounts.items() if each.reasons]
    return "\n".join(
        [table(head, rows), *(["\nWithout an answer, by reason. " + " ".join(reasons)] if reasons else [])]
    )


def why(account: Account) -> str:
    """The reasons of the calls that got no answer, the most frequent first."""
    return ", ".join(f"{reason} {number}" for reason, number in account.reasons.most_common()) or "none"


def milliseconds(seconds: float) -> str:
    """A short time as text."""
    return f"{1000 * seconds:.1f} ms" if seconds == seconds else "none"


def where() -> str:
    """One line that says where and when a section's figures were measured."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"{machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, {packages}."


def fill(document: Path, section: str, text: str) -> None:
    """Put a section's text between its marks in a document; the rest stays.

    Raises:
        ValueError: the document has no such section.
    """
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    content = document.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(content):
        raise ValueError(f"{document.name} has no place for {section}")
    filled = pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", content)
    draft = document.with_suffix(".draft")
    draft.write_text(filled, encoding="utf-8")
    draft.replace(document)
