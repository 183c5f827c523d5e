"""What a stream tells, in this order: a prediction, at most one preview, any number of steps, a result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from whylight_client.maps import SaliencyMap
from whylight_client.results import ExplainResult, PredictResult


@dataclass(frozen=True)
class PredictionEvent:
    """What the model sees: comes first.

    Attributes:
        prediction: as `Client.predict` answers.
    """

    prediction: PredictResult


@dataclass(frozen=True, eq=False)
class PreviewEvent:
    """A fast map (Grad-CAM) of the same classes, while the chosen method is at work.

    Attributes:
        preview: without figures of quality.
    """

    preview: ExplainResult


@dataclass(frozen=True, eq=False)
class ProgressEvent:
    """How far the chosen method is.

    Attributes:
        step: how many steps are done, from 1.
        steps: how many there will be.
        objective: of a method that maximises something: the best value so far; None where there is none to tell.
        maps: the best maps so far by the index of their class; empty unless asked for, and not with every step.
    """

    step: int
    steps: int
    objective: float | None
    maps: Mapping[int, SaliencyMap]


@dataclass(frozen=True, eq=False)
class ResultEvent:
    """The end.

    Attributes:
        result: as `Client.explain` answers.
    """

    result: ExplainResult


Event: TypeAlias = PredictionEvent | PreviewEvent | ProgressEvent | ResultEvent
