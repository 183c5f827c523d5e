"""Insertion, deletion, and positive and negative perturbation."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explainers import parameter
from quality.curves import BASELINES, deletion_curve, insertion_curve, removal_predictions
from quality.evidence import Evidence, Need
from quality.metric import Direction, Metric, Unit
from quality.registry import register

STEPS = "Number of equal parts in which the pixels change: 224 are 224 pixels a step at 224 x 224."
TENTHS = range(1, 10)


@register
@dataclass(frozen=True)
class Insertion(Metric):
    """How soon the class appears when pixels of the image are laid on the baseline, the most salient first.

    Costs steps - 1 forward passes for each row and one for each image's baseline. The unchanged image's pass is shared.
    """

    name: ClassVar[str] = "insertion"
    title: ClassVar[str] = "Insertion"
    formula: ClassVar[str] = (
        "area under p_c against the share of pixels shown on the baseline, in stable descending order of n(up(S)); "
        "trapezoids over all steps with both ends; blur: 11 x 11 Gaussian, sigma 5"
    )
    reference: ClassVar[str] = "Petsiuk et al. 2018"
    direction: ClassVar[Direction] = "higher"
    unit: ClassVar[Unit] = Unit.PROBABILITY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK})

    steps: int = parameter(224, STEPS, minimum=1, maximum=65536)
    baseline: str = parameter("blur", "What the pixels are laid on.", choices=BASELINES)

    def _values(self, evidence: Evidence) -> Tensor:
        return insertion_curve(evidence, self.steps, self.baseline).area()  # type: ignore[arg-type]


@register
@dataclass(frozen=True)
class Deletion(Metric):
    """How soon the class disappears when pixels give way to the baseline, the most salient first.

    Costs steps - 1 forward passes for each row and one for a baseline of one colour. The unchanged image's is shared.
    """

    name: ClassVar[str] = "deletion"
    title: ClassVar[str] = "Deletion"
    formula: ClassVar[str] = (
        "area under p_c against the share of pixels replaced by the baseline, in stable descending order of n(up(S)); "
        "trapezoids over all steps with both ends; mean: 0 behind the model's normalisation"
    )
    reference: ClassVar[str] = "Petsiuk et al. 2018"
    direction: ClassVar[Direction] = "lower"
    unit: ClassVar[Unit] = Unit.PROBABILITY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK})

    steps: int = parameter(224, STEPS, minimum=1, maximum=65536)
    baseline: str = parameter("mean", "What the pixels give way to.", choices=BASELINES)

    def _values(self, evidence: Evidence) -> Tensor:
        return deletion_curve(evidence, self.steps, self.baseline).area()  # type: ignore[arg-type]


@dataclass(frozen=True)
class Perturbation(Metric, abc.ABC):
    """Area under the accuracy while 10, 20, ..., 90 % of the pixels are black. Costs 9 forward passes for each row.

    The area isn't divided by the width of its base: an accuracy of 1 throughout gives 0.8, or 0.9 with the 0 % point.
    """

    reference: ClassVar[str] = "Chefer et al. 2021"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK})
    positive: ClassVar[bool]
    with_zero: ClassVar[bool]

    right: str = parameter(
        "target",
        "Which class counts as right: the row's own class, or what the network predicts for the unchanged image.",
        choices=("target", "predicted"),
    )

    def _values(self, evidence: Evidence) -> Tensor:
        predictions = evidence.remember(
            ("perturbation", self.positive),
            lambda: removal_predictions(evidence, TENTHS, most_salient_first=self.positive),
        )
        unchanged = evidence.unmasked_verdicts
        answer = evidence.right_verdicts if self.right == "target" else unchanged
        if self.with_zero:
            predictions = torch.cat([unchanged[:, None], predictions], dim=1)
        return torch.trapezoid((predictions == answer[:, None]).double(), dim=1) / 10


@register
@dataclass(frozen=True)
class PositivePerturbation(Perturbation):
    """Accuracy while the most salient pixels are removed first."""

    name: ClassVar[str] = "positive_perturbation"
    title: ClassVar[str] = "Positive perturbation"
    formula: ClassVar[str] = "area under accuracy against the share removed, 0.1 to 0.9; most salient first, set to 0"
    direction: ClassVar[Direction] = "lower"
    range: ClassVar[tuple[float, float]] = (0, 0.8)
    positive: ClassVar[bool] = True
    with_zero: ClassVar[bool] = False


@register
@dataclass(frozen=True)
class PositivePerturbationWithZero(Perturbation):
    """The same with the unchanged image."""

    name: ClassVar[str] = "positive_perturbation_with_zero"
    title: ClassVar[str] = "Positive perturbation with the 0 % point"
    formula: ClassVar[str] = "area under accuracy against the share removed, 0 to 0.9; most salient first, set to 0"
    direction: ClassVar[Direction] = "lower"
    range: ClassVar[tuple[float, float]] = (0, 0.9)
    positive: ClassVar[bool] = True
    with_zero: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class NegativePerturbation(Perturbation):
    """Accuracy while the least salient pixels are removed first."""

    name: ClassVar[str] = "negative_perturbation"
    title: ClassVar[str] = "Negative perturbation"
    formula: ClassVar[str] = "area under accuracy against the share removed, 0.1 to 0.9; least salient first, set to 0"
    direction: ClassVar[Direction] = "higher"
    range: ClassVar[tuple[float, float]] = (0, 0.8)
    positive: ClassVar[bool] = False
    with_zero: ClassVar[bool] = False


@register
@dataclass(frozen=True)
class NegativePerturbationWithZero(Perturbation):
    """The same with the unchanged image."""

    name: ClassVar[str] = "negative_perturbation_with_zero"
    title: ClassVar[str] = "Negative perturbation with the 0 % point"
    formula: ClassVar[str] = "area under accuracy against the share removed, 0 to 0.9; least salient first, set to 0"
    direction: ClassVar[Direction] = "higher"
    range: ClassVar[tuple[float, float]] = (0, 0.9)
    positive: ClassVar[bool] = False
    with_zero: ClassVar[bool] = True
