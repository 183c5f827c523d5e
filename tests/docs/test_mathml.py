"""Formulas between dollars become MathML; other dollars stay."""

import pytest

markdown = pytest.importorskip("markdown", reason="needs the extra docs")
pytest.importorskip("latex2mathml", reason="needs the extra docs")

from scripts.mathml import MathML  # noqa: E402 - behind the skips


def made(text: str) -> str:
    return str(markdown.markdown(text, extensions=[MathML(), "tables"]))


def test_both_forms() -> None:
    """Within a line, and on lines of its own; underscores and stars in them are no Markdown."""
    assert "<math" in made("a $x_i * y_j * z$ b")
    assert "<em>" not in made("a $x_i * y_j * z$ b")
    assert 'display="block"' in made("$$\nS = \\sum_k w_k\nA_k\n$$")


@pytest.mark.parametrize("text", ["5 $ and 6 $", "`$name$`", "US$5 and US$6", "a $ b$ c"])
def test_other_dollars_stay(text: str) -> None:
    """Amounts, and what stands in code."""
    assert "<math" not in made(text)
    assert "$" in made(text)
