"""Which classes of an image to explain."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from explainers.errors import InvalidTargetError


@dataclass(frozen=True)
class TopK:
    """The k classes with the largest logits, largest first (k is cut to the number of classes)."""

    k: int = 1


@dataclass(frozen=True)
class Classes:
    """Classes by index, in the order in which they are to be answered."""

    indices: tuple[int, ...]


Targets = TopK | Classes
"""What to explain of one image."""


def resolve(targets: Sequence[Targets], logits: Tensor) -> list[tuple[int, ...]]:
    """Turn the targets of a batch into class indices.

    Args:
        targets: one entry for each image.
        logits: shape (batch, classes).

    Returns:
        One tuple of class indices for each image.

    Raises:
        InvalidTargetError: a class index is outside [0, classes).
        ValueError: there is not one entry for each image.
    """
    if len(targets) != len(logits):
        raise ValueError(f"{len(targets)} targets for {len(logits)} images")
    count = logits.shape[1]
    for target in targets:
        if isinstance(target, Classes) and not all(0 <= index < count for index in target.indices):
            raise InvalidTargetError(f"class indices must be between 0 and {count - 1}")
    return [
        target.indices
        if isinstance(target, Classes)
        else tuple(row.argsort(descending=True, stable=True)[: max(target.k, 1)].tolist())
        for target, row in zip(targets, logits, strict=True)
    ]
