"""docs/methods.md has every method, and says of each what a reader needs."""

import re

import pytest

from explainers import METHODS
from tests.docs.pages import DOCS

PAGE = (DOCS / "methods.md").read_text(encoding="utf-8")
SECTIONS = {match[1]: match[0] for match in re.finditer(r"^### [^\n]*\(`(\w+)`\)\n.*?(?=^##|\Z)", PAGE, re.M | re.S)}


def test_every_method_has_its_section() -> None:
    """And no section is of a method that there is not."""
    assert sorted(SECTIONS) == sorted(METHODS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_section(name: str) -> None:
    """The title and the source are the registry's; formula, cost, networks and traps are there."""
    method, section = METHODS[name], SECTIONS[name]
    assert section.startswith(f"### {method.title} (`{name}`)\n")
    for source in method.reference.split("; "):
        assert source in section
    assert re.search(r"\$\$.+?\$\$", section, re.DOTALL)
    for part in ("Source", "Cost", "Works on", "Beware"):
        assert re.search(rf"^- \*\*{part}\.?\*\*", section, re.MULTILINE), part
