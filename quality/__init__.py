"""The metrics of an explanation.

    evidence = of_results(network, images, METHODS["grad_cam"]().explain(network, images, targets))
    values = METRICS["average_drop"]().values(evidence)
    figure = summarise(METRICS["average_drop"](), [values])

A new metric is a class under `@register` in the file of its family, and one import here.
"""

from quality.agreement import RankCorrelation, TopOverlap
from quality.box_accuracy import MaxBoxAccuracy, MaxBoxAccuracyV2
from quality.box_study import (
    AverageDropBox,
    AverageDropInsideBox,
    AverageDropOutsideBox,
    AverageGainBox,
    AverageGainInsideBox,
    AverageGainOutsideBox,
    AverageIncreaseBox,
    AverageIncreaseInsideBox,
    AverageIncreaseOutsideBox,
)
from quality.curves import Curve, deletion_curve, insertion_curve
from quality.evidence import Evidence, Explain, MissingEvidenceError, Need, explain_by, of_results
from quality.localisation import (
    EnergyPointingGame,
    LocalisationError,
    LocalisationErrorAtHalf,
    OfficialMetric,
    OfficialMetricAtHalf,
    PixelF1,
    PointingGame,
    ThresholdIoU,
)
from quality.masked import AverageDrop, AverageGain, AverageIncrease, WinPercentage
from quality.metric import Direction, Figure, Metric, Unit, summarise
from quality.passes import watched
from quality.perturbation import (
    Deletion,
    Insertion,
    NegativePerturbation,
    NegativePerturbationWithZero,
    PositivePerturbation,
    PositivePerturbationWithZero,
)
from quality.randomisation import ModelRandomisation
from quality.registry import METRICS, register
from quality.saliency_metric import SaliencyMetric
from quality.segmentation import AveragePrecision, MeanIoU, PixelAccuracy
from quality.shape import BorderMass, CornerMass, Entropy, GiniSparseness
from quality.stability import Infidelity, MaxSensitivity

__all__ = [
    "METRICS",
    "AverageDrop",
    "AverageDropBox",
    "AverageDropInsideBox",
    "AverageDropOutsideBox",
    "AverageGain",
    "AverageGainBox",
    "AverageGainInsideBox",
    "AverageGainOutsideBox",
    "AverageIncrease",
    "AverageIncreaseBox",
    "AverageIncreaseInsideBox",
    "AverageIncreaseOutsideBox",
    "AveragePrecision",
    "BorderMass",
    "CornerMass",
    "Curve",
    "Deletion",
    "Direction",
    "EnergyPointingGame",
    "Entropy",
    "Evidence",
    "Explain",
    "Figure",
    "GiniSparseness",
    "Infidelity",
    "Insertion",
    "LocalisationError",
    "LocalisationErrorAtHalf",
    "MaxBoxAccuracy",
    "MaxBoxAccuracyV2",
    "MaxSensitivity",
    "MeanIoU",
    "Metric",
    "MissingEvidenceError",
    "ModelRandomisation",
    "Need",
    "NegativePerturbation",
    "NegativePerturbationWithZero",
    "OfficialMetric",
    "OfficialMetricAtHalf",
    "PixelAccuracy",
    "PixelF1",
    "PointingGame",
    "PositivePerturbation",
    "PositivePerturbationWithZero",
    "RankCorrelation",
    "SaliencyMetric",
    "ThresholdIoU",
    "TopOverlap",
    "Unit",
    "WinPercentage",
    "deletion_curve",
    "explain_by",
    "insertion_curve",
    "of_results",
    "register",
    "summarise",
    "watched",
]
