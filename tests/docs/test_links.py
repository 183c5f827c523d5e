"""What a page leads to is there, and each page can be reached."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, name_of, without_code

LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
MADE = {"reference/api.md"}  # while the site is built


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as code hosts and mkdocs make them."""
    headings = re.findall(r"^#+ (.+?)\s*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    slugs = (re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading)).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", slug) for slug in slugs}


def links(page: Path) -> Iterator[str]:
    """The relative ones, with their anchors."""
    return (link for link in LINK.findall(without_code(page)) if not re.match(r"[a-z]+:", link))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the project, and to a heading in it."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.is_relative_to(DOCS) and str(target.relative_to(DOCS)) in MADE:
            continue
        assert target.exists(), f"{name_of(page)}: {link}"
        assert target.is_relative_to(ROOT), f"{name_of(page)}: {link} leaves the project"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


def test_links_are_found() -> None:
    """The pattern above sees pictures, links, and links around pictures."""
    found = LINK.findall("[a](b.md) and ![c](d.png), [e [f] g](h.md#i)")
    assert found == ["b.md", "d.png", "h.md#i"]


def test_every_page_is_in_the_navigation() -> None:
    """Once: a page that nobody can reach was written for nobody."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = re.findall(r": ([\w./-]+\.md)$", navigation, re.MULTILINE)
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | MADE
    assert sorted(named) == sorted(there), "a page of docs/ needs its line under nav in mkdocs.yml"


def test_every_picture_is_shown() -> None:
    """In some page."""
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    assert set((DOCS / "images").iterdir()) <= shown
