"""What makes a map doubtful: thresholds on figures of one explanation. The warnings of the API are made by these.

They are conventions that a user can rely on, no findings: each says that a person should look, not that a map is wrong.
"""

from collections.abc import Mapping
from enum import StrEnum

from quality.agreement import RankCorrelation
from quality.metric import Metric
from quality.shape import BorderMass
from quality.stability import MaxSensitivity

UNSTABLE_ABOVE = 0.5
"""Max-sensitivity: under noise that nobody sees, the map moves by more than half of its own norm."""

BORDER_MASS_ABOVE = 2 / 3
"""Border mass at its default width. An even map has 0.36."""

DISAGREE_BELOW = 0.3
"""Rank correlation of two methods' maps."""


class Doubt(StrEnum):
    """What is doubtful."""

    UNSTABLE = "unstable"
    BORDER_MASS_HIGH = "border mass high"
    METHODS_DISAGREE = "methods disagree"


def doubts(figures: Mapping[Metric, float]) -> list[Doubt]:
    """What the figures of one explanation say. Not-a-number, and what is not there, says nothing."""
    found = []
    if any(value > UNSTABLE_ABOVE for metric, value in figures.items() if isinstance(metric, MaxSensitivity)):
        found.append(Doubt.UNSTABLE)
    if figures.get(BorderMass(), 0.0) > BORDER_MASS_ABOVE:
        found.append(Doubt.BORDER_MASS_HIGH)
    if figures.get(RankCorrelation(), 1.0) < DISAGREE_BELOW:
        found.append(Doubt.METHODS_DISAGREE)
    return found
