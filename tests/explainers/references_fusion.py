"""Fusion of Layer-CAM over layers again, straight from its definition: float64, cell by cell."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from tests.explainers.references import Map, ToGrid, channels_first
from tests.explainers.references_cam import layer_cam


def fused_layer_cam(
    model: nn.Module, image: Tensor, layers: Sequence[str], target: int, to_grid: ToGrid = channels_first
) -> Map:
    """max over the layers of up(tanh(2 S / max S)), S the Layer-CAM of one layer, on the grid with the most cells."""
    scaled = []
    for layer in layers:
        raw = layer_cam(model, image, layer, target, to_grid)
        scaled.append(np.zeros_like(raw))
        for cell in np.ndindex(*raw.shape):
            scaled[-1][cell] = math.tanh(2 * raw[cell] / raw.max()) if raw.max() > 0 else 0.0
    height, width = max((each.shape for each in scaled), key=lambda shape: shape[0] * shape[1])
    fused = np.zeros((height, width))
    for row, column in np.ndindex(height, width):
        fused[row, column] = max(at(each, (row + 0.5) / height, (column + 0.5) / width) for each in scaled)
    return fused


def at(grid: Map, y: float, x: float) -> float:
    """Bilinear value of a map at a point in [0, 1] x [0, 1]; beyond the centre of an outermost cell its value holds."""
    rows, columns = grid.shape
    i, j = min(max(y * rows - 0.5, 0), rows - 1), min(max(x * columns - 0.5, 0), columns - 1)
    top, left = int(i), int(j)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    upper = grid[top, left] * (1 - (j - left)) + grid[top, right] * (j - left)
    lower = grid[bottom, left] * (1 - (j - left)) + grid[bottom, right] * (j - left)
    return float(upper * (1 - (i - top)) + lower * (i - top))
