"""A Markdown extension: formulas in dollars become MathML, which browsers draw without a script or a font of ours.

`$a$` within a line, `$$a$$` on lines of its own: the forms that code hosts draw, too.
"""

import re
from xml.etree.ElementTree import Element

import markdown
from latex2mathml.converter import convert
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

DISPLAY = r"\$\$(.+?)\$\$"
# Neither dollar is next to a blank on its inside, so that "5 $ and 6 $" is no formula.
INLINE = r"(?<![\\$\w])\$(?![\s$])([^$]+?)(?<!\s)\$(?![\w$])"
BEFORE_ESCAPES = 185  # and behind code, which may hold dollars: markdown.inlinepatterns has 190 and 180 for these


class Formula(InlineProcessor):  # type: ignore[misc] # Markdown has no types
    """One of the two forms."""

    def __init__(self, pattern: str, display: str, md: markdown.Markdown) -> None:
        """`display` is "block" or "inline", as MathML has it."""
        super().__init__(pattern, md)
        self.compiled_re = re.compile(pattern, re.DOTALL)
        self._display = display

    def handleMatch(  # noqa: N802 - Markdown's own name
        self, match: re.Match[str], data: str
    ) -> tuple[Element | str, int, int]:
        """The formula's place is kept by the stash, because MathML is no Markdown."""
        mathml = convert(match.group(1).strip(), display=self._display)
        return self.md.htmlStash.store(mathml), match.start(0), match.end(0)


class MathML(Extension):  # type: ignore[misc]
    """What mkdocs.yml names."""

    def extendMarkdown(self, md: markdown.Markdown) -> None:  # noqa: N802 - Markdown's own name
        """Add both forms, the longer one first."""
        md.inlinePatterns.register(Formula(DISPLAY, "block", md), "mathml-display", BEFORE_ESCAPES + 1)
        md.inlinePatterns.register(Formula(INLINE, "inline", md), "mathml-inline", BEFORE_ESCAPES)
