"""Maps on the pixels of the image that they explain, and how much of them lies where."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protos.explain.v1 import types_pb2
from service.converters.saliency import map_values

Mask = NDArray[np.bool_]
Map = NDArray[np.float64]


def on_image(saliency: types_pb2.SaliencyMap, image: types_pb2.ImageInfo) -> Map:
    """A map interpolated at the pixel centres of the upright image, shape (height, width); zero outside the map."""
    height, width = saliency.values.shape
    values = np.array(map_values(saliency)).reshape(height, width).astype(np.float64)
    affine = saliency.map_to_image
    x = (np.arange(image.width) + 0.5 - affine.x0) / affine.xx
    y = (np.arange(image.height) + 0.5 - affine.y0) / affine.yy
    rows, columns = (_weights(y, height), _weights(x, width))
    return np.asarray(rows @ values @ columns.T)


def _weights(position: NDArray[np.floating[Any]], size: int) -> Map:
    """Bilinear weights, shape (positions, size), of cells with centres at 0.5, 1.5, ...; edges are repeated."""
    inside = (position >= 0) & (position <= size)
    index = np.clip(position - 0.5, 0, size - 1)
    low = np.minimum(index.astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    weights = np.zeros((len(position), size))
    rows = np.arange(len(position))
    np.add.at(weights, (rows, low), 1 - (index - low))
    np.add.at(weights, (rows, high), index - low)
    return weights * inside[:, None]


def energy(saliency: Map, mask: Mask) -> float:
    """Share of a map's energy inside a mask."""
    total = saliency.sum()
    return float(saliency[mask].sum() / total) if total > 0 else float("nan")
