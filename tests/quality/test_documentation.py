"""docs/metrics.md says what the registry says."""

from quality import METRICS
from scripts.generate_metrics_table import PAGE, page


def test_page_is_up_to_date() -> None:
    """The committed page is what the script writes."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.generate_metrics_table"


def test_every_metric_is_on_the_page() -> None:
    """One row each, with all of its columns."""
    rows = [row for row in page().splitlines() if row.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(METRICS)
    assert {row.replace("\\|", "").count("|") for row in rows} == {9}
