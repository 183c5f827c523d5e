"""Raw saliency maps to maps in [0, 1] and to the size of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

# A map whose values differ by less than this share of the largest one is constant but for float32 rounding: summing
# thousands of terms leaves errors of a few units in the last place, and stretching those to [0, 1] would show noise.
CONSTANT_TOLERANCE = 16 * torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class NormalisedMaps:
    """Maps in [0, 1] with what was lost by normalising them.

    Attributes:
        maps: shape (n, h, w), float32. All zero where degenerate, else from exactly 0 to exactly 1.
        minimum: shape (n,), smallest raw value; not-a-number where the raw map is not finite.
        maximum: shape (n,), largest raw value; likewise.
        degenerate: shape (n,), bool.
    """

    maps: Tensor
    minimum: Tensor
    maximum: Tensor
    degenerate: Tensor


def normalise(raw: Tensor) -> NormalisedMaps:
    """Stretch each map to [0, 1] by its own minimum and maximum.

    A map is degenerate, and set to zero, when it holds a value that is not finite or when max - min is at most
    `CONSTANT_TOLERANCE` times its largest absolute value (or is too small for a normal float32).

    Args:
        raw: shape (n, h, w).
    """
    raw = raw.float()
    minimum, maximum = raw.flatten(1).aminmax(dim=1)
    spread = maximum - minimum
    magnitude = torch.maximum(minimum.abs(), maximum.abs())
    tiny = torch.finfo(torch.float32).tiny
    finite = spread.isfinite()
    degenerate = ~(finite & (spread > CONSTANT_TOLERANCE * magnitude) & (spread >= tiny))
    divisor = spread.where(~degenerate, 1)
    maps = ((raw - minimum[:, None, None]) / divisor[:, None, None]).where(~degenerate[:, None, None], 0)
    nan = torch.full_like(spread, torch.nan)
    return NormalisedMaps(maps, minimum.where(finite, nan), maximum.where(finite, nan), degenerate)


def constant_along_last(values: Tensor) -> Tensor:
    """Whether values of shape (..., n) are all the same but for float32 rounding: shape (...), bool; False for NaN."""
    minimum, maximum = values.aminmax(dim=-1)
    return maximum - minimum <= CONSTANT_TOLERANCE * torch.maximum(minimum.abs(), maximum.abs())


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps bilinearly, with the centres of cells where they belong (`align_corners=False`).

    Args:
        maps: shape (h, w) or (n, h, w).
        size: (height, width) to reach.

    Returns:
        Shape (height, width) or (n, height, width), within the range of the values given.
    """
    stack = maps.reshape(-1, 1, *maps.shape[-2:])
    enlarged = torch.nn.functional.interpolate(stack, size=size, mode="bilinear", align_corners=False)
    return enlarged.reshape(*maps.shape[:-2], *size)
