"""From figures to doubts: exactly at a threshold there is none, just beyond it there is."""

import math

import pytest

from quality import AverageDrop, BorderMass, MaxSensitivity, Metric, RankCorrelation, TopOverlap
from quality.checks import BORDER_MASS_ABOVE, DISAGREE_BELOW, UNSTABLE_ABOVE, Doubt, doubts


@pytest.mark.parametrize(
    ("metric", "threshold", "beyond", "doubt"),
    [
        (MaxSensitivity(), UNSTABLE_ABOVE, math.inf, Doubt.UNSTABLE),
        (MaxSensitivity(samples=2, radius=0.1, seed=3), UNSTABLE_ABOVE, math.inf, Doubt.UNSTABLE),
        (BorderMass(), BORDER_MASS_ABOVE, math.inf, Doubt.BORDER_MASS_HIGH),
        (RankCorrelation(), DISAGREE_BELOW, -math.inf, Doubt.METHODS_DISAGREE),
    ],
)
def test_thresholds(metric: Metric, threshold: float, beyond: float, doubt: Doubt) -> None:
    """At the threshold, and on its good side, there is no doubt; the next number beyond it is one."""
    assert doubts({metric: threshold}) == []
    assert doubts({metric: math.nextafter(threshold, -beyond)}) == []
    assert doubts({metric: math.nextafter(threshold, beyond)}) == [doubt]
    assert doubts({metric: math.nan}) == []


def test_the_thresholds_are_what_the_documentation_says() -> None:
    """Clients rely on them: docs/quality.md and the comments of the proto name them."""
    assert (UNSTABLE_ABOVE, BORDER_MASS_ABOVE, DISAGREE_BELOW) == (0.5, 2 / 3, 0.3)


def test_other_figures_raise_no_doubt() -> None:
    """Neither another metric nor the border at another width, whose threshold would be another."""
    assert doubts({}) == []
    assert doubts({AverageDrop(): 100.0, BorderMass(width=0.5): 1.0, TopOverlap(): 0.0}) == []


def test_doubts_have_an_order() -> None:
    """Each at most once, in the order of their definition, whatever the order of the figures."""
    figures = {RankCorrelation(): -1.0, BorderMass(): 1.0, MaxSensitivity(): 1.0, MaxSensitivity(samples=1): 2.0}
    assert doubts(figures) == list(Doubt)
    assert doubts({MaxSensitivity(): 0.1, MaxSensitivity(samples=1): 2.0}) == [Doubt.UNSTABLE]
