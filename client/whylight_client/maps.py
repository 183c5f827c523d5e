"""Saliency maps: from the wire to arrays, and from the map's grid to the pixels of the image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whylight_client._protos.explain.v1 import types_pb2

FloatMap = NDArray[np.float32]
"""Shape (height, width), in [0, 1]."""

# Data type to that of the array, and the code that stands for the largest value.
_TYPES = {
    types_pb2.DATA_TYPE_FLOAT32: ("<f4", 1),
    types_pb2.DATA_TYPE_UINT8: ("u1", 255),
    types_pb2.DATA_TYPE_UINT16: ("<u2", 65535),
}
_NEWER = "is the service newer than this client?"


@dataclass(frozen=True)
class Placement:
    """Where a map lies in the upright image: x_image = scale_x * x + offset_x, and y likewise.

    Both sides count continuously: x to the right, y down, the pixel in row i and column j covers [j, j+1) x [i, i+1).

    Attributes:
        scale_x: pixels of the image for each column of the map.
        offset_x: where the first column begins, in pixels; negative where it begins left of the image.
        scale_y: pixels for each row.
        offset_y: where the first row begins.
    """

    scale_x: float
    offset_x: float
    scale_y: float
    offset_y: float


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """The map of a class, on the grid that the method computed.

    Attributes:
        values: shape (height, width), float32, in [0, 1], read-only; the largest is 1 and the smallest 0.
        degenerate: the map is constant: it says nothing about the image, and its values are zeros.
        raw_range: smallest and largest value before they were stretched to [0, 1]; None below full precision.
        placement: where the map lies in the upright image.
    """

    values: FloatMap
    degenerate: bool
    raw_range: tuple[float, float] | None
    placement: Placement

    def on_image(self, height: int, width: int) -> FloatMap:
        """The map at the centres of the image's pixels, by bilinear interpolation.

        Args:
            height: of the upright image, in pixels.
            width: likewise.

        Returns:
            Shape (height, width), float32, in [0, 1]; 0 where the network saw nothing, outside of a crop.
        """
        rows, row_weights = _weights(height, self.values.shape[0], self.placement.scale_y, self.placement.offset_y)
        columns, column_weights = _weights(width, self.values.shape[1], self.placement.scale_x, self.placement.offset_x)
        canvas = np.zeros((height, width), np.float32)
        canvas[rows, columns] = (row_weights @ self.values @ column_weights.T).clip(0, 1)
        return canvas

    def seen(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of an image of this size that the network saw."""
        rows, _ = _weights(height, self.values.shape[0], self.placement.scale_y, self.placement.offset_y)
        columns, _ = _weights(width, self.values.shape[1], self.placement.scale_x, self.placement.offset_x)
        return rows, columns


def to_map(message: types_pb2.SaliencyMap, *, precise: bool) -> SaliencyMap:
    """A map of the wire; `precise` says whether it has a raw range.

    Raises:
        ValueError: it has a data type or a place that this client does not know.
    """
    way = message.map_to_image
    if way.xy or way.yx:
        raise ValueError(f"the map is rotated against the image; {_NEWER}")
    return SaliencyMap(
        _values(message),
        message.degenerate,
        (message.raw_minimum, message.raw_maximum) if precise else None,
        Placement(way.xx, way.x0, way.yy, way.y0),
    )


def _values(message: types_pb2.SaliencyMap) -> FloatMap:
    tensor = message.values
    if tensor.data_type not in _TYPES:
        raise ValueError(f"the map has an unknown data type; {_NEWER}")
    data_type, largest = _TYPES[tensor.data_type]
    codes = np.frombuffer(tensor.data, data_type).reshape(tuple(tensor.shape))
    values: FloatMap = codes.astype(np.float32)  # of this machine's byte order, and no view of the message
    values /= np.float32(largest)
    values.flags.writeable = False
    return values


def _weights(pixels: int, cells: int, scale: float, offset: float) -> tuple[slice, FloatMap]:
    """Which pixels lie on the map, and the share of each cell in each of them.

    Returns:
        The pixels whose centre is on the map, and shape (as many, cells), with rows that sum to 1. Beyond the centre of
        an outermost cell its value holds on.
    """
    centres = (np.arange(pixels) + 0.5 - offset) / scale
    on_map = np.flatnonzero((centres >= 0) & (centres < cells))
    first = int(on_map[0]) if on_map.size else 0
    position = np.clip(centres[on_map] - 0.5, 0, cells - 1)
    distance = np.abs(position[:, None] - np.arange(cells)[None, :])
    return slice(first, first + on_map.size), np.maximum(0, 1 - distance).astype(np.float32)
