"""What a metric of explanations is: its name, what it means, what it needs, and one value for each map."""

import abc
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quality.evidence import Evidence, Need

Direction = Literal["higher", "lower"]
"""Which values the field calls better."""


class Unit(StrEnum):
    """What a value counts."""

    PERCENT = "%"
    PROBABILITY = "probability"
    SHARE = "share"
    NUMBER = "number"


@dataclass(frozen=True)
class Metric(abc.ABC):
    """A metric. Its fields are its parameters (`explainers.parameter`), so equal metrics are equal instances.

    Attributes:
        name: snake-case name, for requests and results.
        title: as the literature writes it.
        formula: the definition in plain text.
        reference: authors and year of the defining paper.
        direction: whether higher or lower values are better. A convention of the field, not a verdict.
        unit: what a value counts.
        range: smallest and largest possible value, inclusive; infinite where there is no bound.
        needs: what must be in the evidence beyond images, classes and maps.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    reference: ClassVar[str]
    direction: ClassVar[Direction]
    unit: ClassVar[Unit] = Unit.SHARE
    range: ClassVar[tuple[float, float]] = (0, 1)
    needs: ClassVar[frozenset[Need]] = frozenset()

    def values(self, evidence: Evidence) -> Tensor:
        """One value for each row (an image with a target); a row's value never depends on the other rows.

        Returns:
            Float64 on the CPU, shape (rows,); (rows, k) for a metric that `aggregate`s otherwise than by the mean.
            Not-a-number where the metric is not defined: a degenerate map, an image that is not finite, no such object.

        Raises:
            MissingEvidenceError: something in `needs` is not there.
            NotApplicableError: the metric is not defined for this network.
        """
        evidence.require(self.name, self.needs)
        values = self._values(evidence).to(device="cpu", dtype=torch.float64)
        undefined = evidence.undefined.view(-1, *[1] * (values.dim() - 1))
        return values.masked_fill(undefined, torch.nan)

    def aggregate(self, values: Tensor) -> float:
        """One figure for rows whose values are all defined: their mean."""
        return float(values.mean())

    @abc.abstractmethod
    def _values(self, evidence: Evidence) -> Tensor:
        """As `values`; rows with a degenerate map may get anything but an exception."""


@dataclass(frozen=True)
class Figure:
    """A metric over many maps.

    Attributes:
        metric: with its parameters: figures for different ones can't be compared.
        value: aggregate of the defined values; not-a-number where there is none.
        count: number of maps that it is taken over.
        undefined: number of maps that were left out, because the metric is not defined for them.
    """

    metric: Metric
    value: float
    count: int
    undefined: int


def summarise(metric: Metric, values: Iterable[Tensor]) -> Figure:
    """The figure of one or several batches of values, as `Metric.values` gives them."""
    rows = torch.cat(list(values))
    defined = rows.flatten(1).isfinite().all(dim=1) if rows.dim() > 1 else rows.isfinite()
    count = int(defined.sum())
    value = metric.aggregate(rows[defined]) if count else math.nan
    return Figure(metric, value, count, len(rows) - count)
