"""Smooth random masks, the same for every image of the same size."""

import dataclasses
import math

import torch
from torch import Tensor

from explainers.masking import bilinear_weights


@dataclasses.dataclass(frozen=True)
class RandomMasks:
    """Random patterns of a coarse grid, enlarged to a little more than an image, and cut to it at random places.

    What is drawn, on the CPU, so that it is the same on every device: with `g = torch.Generator().manual_seed(seed)`,
    `patterns = torch.rand(count, cells, cells, generator=g) < keep`, then
    `tops = torch.randint(ceil(height / cells), (count,), generator=g)`, then `lefts` in the same way from the width.
    Mask i is pattern i, enlarged bilinearly (`align_corners=False`) by ceil(height / cells) and ceil(width / cells) for
    each of cells + 1 cells, without its first tops[i] rows and lefts[i] columns, cut to the size of the image.

    A mask is made when it is asked for: in between there are only the patterns and their places.

    Attributes:
        patterns: shape (count, cells, cells), bool.
        tops: shape (count,), first row of each mask in its enlarged pattern.
        lefts: shape (count,), first column.
        size: (height, width) of a mask.
    """

    patterns: Tensor
    tops: Tensor
    lefts: Tensor
    size: tuple[int, int]

    @classmethod
    def draw(cls, count: int, cells: int, keep: float, seed: int, size: tuple[int, int]) -> "RandomMasks":
        """Draw `count` masks of `size` whose pixels are `keep` on average."""
        generator = torch.Generator().manual_seed(seed)
        patterns = torch.rand(count, cells, cells, generator=generator) < keep
        tops, lefts = (torch.randint(math.ceil(side / cells), (count,), generator=generator) for side in size)
        return cls(patterns, tops, lefts, size)

    def make(self, start: int, end: int, like: Tensor) -> Tensor:
        """The masks from `start` to before `end`: shape (n, height, width), in [0, 1], dtype and device of `like`."""
        rows = self._enlargement(self.tops[start:end], self.size[0])
        columns = self._enlargement(self.lefts[start:end], self.size[1])
        patterns = self.patterns[start:end]
        return rows.to(like) @ patterns.to(like) @ columns.to(like).transpose(1, 2)

    def _enlargement(self, offsets: Tensor, side: int) -> Tensor:
        """Weights of the cells for each pixel of a side: shape (n, side, cells)."""
        cells = self.patterns.shape[1]
        weights = bilinear_weights(cells, (cells + 1) * math.ceil(side / cells))
        return weights[offsets[:, None] + torch.arange(side)]
