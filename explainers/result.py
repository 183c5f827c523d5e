"""The result of an explanation, frozen and with what is needed to interpret it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Explanation:
    """Why a network gave one class its score on one image.

    Attributes:
        target: class index.
        map: shape (h, w) on the native grid, float32 on the CPU, in [0, 1]: min-max normalised per map. All zero when
            degenerate.
        raw_minimum: smallest value of the map before normalisation; not-a-number where the map is not finite.
        raw_maximum: largest value of the map before normalisation; likewise.
        degenerate: the map before normalisation is constant, or not finite, and says nothing about the image.
    """

    target: int
    map: Tensor
    raw_minimum: float
    raw_maximum: float
    degenerate: bool


@dataclass(frozen=True)
class ImageResult:
    """Everything that an explainer has to say about one image of a batch.

    Attributes:
        logits: shape (classes,), float32 on the CPU.
        explanations: one for each target, in the order asked for.
    """

    logits: Tensor
    explanations: tuple[Explanation, ...]
