"""Every image of a batch with each of its targets, as rows: for methods that work on all of them at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from explainers.maps import normalise
from explainers.network import Network
from explainers.result import Explanation, ImageResult

# Rows (an image with one target) that are computed together. A climb enlarges rounding errors until they show in the
# map, and products of a batch round otherwise than those of a single image. So on a CPU each row is computed by itself:
# what else is in the batch then changes nothing, to the last bit. (`explainers.rows` says when a network may have
# several.) On a GPU the tape limits the number: it takes about 100 MB for each row of ResNet-50.
ROWS_AT_ONCE = {"cpu": 1, "cuda": 32}


@dataclass(frozen=True)
class Pairs:
    """One row for each target of each image, image by image.

    Attributes:
        counts: number of targets of each image.
        images: shape (rows,), index of each row's image.
        classes: shape (rows,), index of each row's class.
    """

    counts: tuple[int, ...]
    images: Tensor
    classes: Tensor

    @classmethod
    def of(cls, classes: list[tuple[int, ...]], device: torch.device) -> Self:
        """Rows for the class indices of each image, as `explainers.targets.resolve` gives them."""
        counts = tuple(map(len, classes))
        images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
        flat = torch.tensor([index for row in classes for index in row], dtype=torch.int64)
        return cls(counts, images.to(device), flat.to(device))

    def __len__(self) -> int:
        return sum(self.counts)

    def results(self, logits: Tensor, raw: Tensor) -> list[ImageResult]:
        """One result for each image.

        Args:
            logits: shape (images, classes), float32 on the CPU.
            raw: one map for each row, shape (rows, h, w).
        """
        normalised = normalise(raw.detach().float().cpu())
        columns = (self.classes, normalised.minimum, normalised.maximum, normalised.degenerate)
        explanations = [
            Explanation(target, saliency, minimum, maximum, degenerate)
            for saliency, target, minimum, maximum, degenerate in zip(
                normalised.maps, *(column.tolist() for column in columns), strict=True
            )
        ]
        rows = iter(explanations)
        return [
            ImageResult(row, tuple(next(rows) for _ in range(count)))
            for row, count in zip(logits, self.counts, strict=True)
        ]


def rows_at_once(network: Network) -> int:
    """How many rows of a climb to give the network together."""
    return ROWS_AT_ONCE.get(network.device.type, 1)


def few_at_once(network: Network, operation: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """What an operation makes of rows, in parts of `rows_at_once`: it may round otherwise for several than for one."""
    parts = torch.split(rows, rows_at_once(network))
    return operation(rows) if len(parts) == 1 else torch.cat([operation(part) for part in parts])
