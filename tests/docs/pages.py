"""The pages of the documentation, and what stands in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}\S[^\n]*\n(?:(?: {4}[^\n]*)?\n)*)")
SHELL = ("sh", "bash", "shell", "console", "")


@dataclass(frozen=True)
class Block:
    """Code in a page.

    Attributes:
        page: where it stands.
        language: of the fence; empty where there is none.
        text: without the indentation of the block.
    """

    page: Path
    language: str
    text: str


def name_of(page: Path) -> str:
    """For the names of tests."""
    return str(page.relative_to(ROOT))


def fenced(page: Path) -> list[Block]:
    """The blocks between fences."""
    return [Block(page, match[2], match[3]) for match in _FENCE.finditer(page.read_text(encoding="utf-8"))]


def indented(page: Path) -> list[Block]:
    """The blocks that are indented by four blanks; here they are all commands."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [Block(page, "", re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)) for match in _INDENTED.finditer(text)]


def without_code(page: Path) -> str:
    """A page's prose: links in it are links."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"(`+).*?\1", "", text, flags=re.DOTALL)


def shell_lines() -> Iterator[tuple[Path, str]]:
    """Each line of shell in all pages; continued lines are one, comments and prompts are gone."""
    for page in PAGES:
        for block in [*fenced(page), *indented(page)]:
            if block.language not in SHELL:
                continue
            for line in block.text.replace("\\\n", " ").splitlines():
                yield page, re.sub(r"\s#.*$", "", line).strip().removeprefix("$ ")
