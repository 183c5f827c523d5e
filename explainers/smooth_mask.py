"""Masks that are smooth by the way they are made: a coarse grid, spread by a smooth maximum."""

import torch
from torch import Tensor

from explainers.masking import Upsampling

CELLS = 32  # along the shorter side: a cell of 7 pixels at 224
WIDTH = 3.0  # sigma of the kernel, in cells: 21 pixels at 224
REACH = 5  # cells; further away the kernel is below 0.02
TEMPERATURE = 1 / 20


class SmoothMask:
    """Takes the values of a grid's cells to a mask on it, and to the pixels.

    m(u) = smax_v(k(u - v) c(v)) over the cells v around u, c their values, with smax(f) = sum(f e^(f/T)) / sum(e^(f/T))
    and the kernel k(d) = exp(-2 max(0, |d| / sigma - 1/2)^2). A single cell makes a round spot with a flat top and soft
    edges, and where spots meet the higher one counts, so nothing smaller or sharper than a spot can be made. Beyond
    the edges the outermost cells go on, so that equal values make a constant mask. Between the points of the grid the
    mask is bilinear.

    Fong, Patrick, Vedaldi 2019 call it a smooth max-convolution.

    Attributes:
        cells: (rows, columns) of the grid: 32 along the shorter side of the image, or one for each pixel.
    """

    def __init__(self, size: tuple[int, int], like: Tensor) -> None:
        """Prepare for images of `size` (height, width), with dtype and device of `like`."""
        pitch = max(1.0, min(size) / CELLS)
        self.cells = (round(size[0] / pitch), round(size[1] / pitch))
        self._vertical, self._horizontal = (_beyond_edges(count).to(like) for count in self.cells)
        self._kernel = _kernel().to(like)
        self._enlarge = Upsampling(self.cells, size, like)

    def spread(self, values: Tensor) -> Tensor:
        """m on the grid: shape (n, rows, columns) in [0, 1] to the same."""
        side = 2 * REACH + 1
        windows = (self._vertical @ values @ self._horizontal.T).unfold(1, side, 1).unfold(2, side, 1)
        spots = (windows * self._kernel).flatten(3)
        return ((spots / TEMPERATURE).softmax(dim=3) * spots).sum(dim=3)

    def enlarge(self, mask: Tensor) -> Tensor:
        """Shape (n, rows, columns) to (n, height, width)."""
        return self._enlarge(mask)


def _beyond_edges(count: int) -> Tensor:
    """Zeros and ones, shape (count + 2 REACH, count), that repeat the first and the last of `count` values.

    A product has the same gradient on every run, also on a GPU, where the padding of torch has not.
    """
    return torch.eye(count)[torch.arange(-REACH, count + REACH).clamp(0, count - 1)]


def _kernel() -> Tensor:
    """k at the cells around a cell, shape (2 REACH + 1, 2 REACH + 1)."""
    offsets = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    distance = (offsets[:, None] ** 2 + offsets**2).sqrt() / WIDTH
    return torch.exp(-2 * (distance - 0.5).clamp(min=0) ** 2)


def area_target(mask: Tensor, area: float) -> Tensor:
    """The mask of zeros and ones that keeps the order of a mask and has a given area.

    Sorting both and taking the difference is the same as taking the difference: |vecsort(m) - r_a|^2 = |m - t|^2.

    Args:
        mask: m, shape (n, rows, columns).
        area: a, the share of ones.

    Returns:
        t, like m: 1 at the largest of its values, 0 elsewhere; never all of one kind.
    """
    flat = mask.flatten(1)
    points = flat.shape[1]
    ones = min(max(round(area * points), 1), points - 1)
    largest = flat.sort(dim=1, stable=True).indices[:, points - ones :]
    return torch.zeros_like(flat).scatter_(1, largest, 1).view_as(mask)
