"""Maps as pictures: greyscale, and in colour over the image."""

import functools
import io
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from handlers.preprocess import Affine

Map = NDArray[np.float32]
# Measured on a photograph of 1024 x 857: run-length matching takes 160 ms and 1.3 MB, the levels 1 and 6 of the default
# strategy take 180 and 650 ms for 1.5 and 1.3 MB. On a smooth map the default strategy makes the smaller file.
_PHOTO: dict[str, int] = {"compress_type": zlib.Z_RLE}
_MAP: dict[str, int] = {"compress_level": 1}


@dataclass(frozen=True)
class Warped:
    """A map on the pixels of an image.

    Attributes:
        values: shape (rows, columns), uint8, for the part of the image that the network saw.
        top: row of the image in which this part begins.
        left: column likewise.
    """

    values: NDArray[np.uint8]
    top: int
    left: int


def render_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """(height, width) in which pictures of an image are drawn: its own, or scaled down to `longest` pixels."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def warp(saliency: Map, to_picture: Affine, picture: tuple[int, int]) -> Warped:
    """Bilinear interpolation of a map at the centres of pixels.

    Args:
        saliency: shape (h, w), in [0, 1].
        to_picture: from coordinates of the map to those of the picture.
        picture: (height, width).
    """
    top, row_weights = _weights(picture[0], saliency.shape[0], to_picture.scale_y, to_picture.offset_y)
    left, column_weights = _weights(picture[1], saliency.shape[1], to_picture.scale_x, to_picture.offset_x)
    # By torch: NumPy's own threads would go on waiting for another product, busily, for longer than this one takes.
    factors = row_weights, saliency, column_weights.T
    values = torch.linalg.multi_dot([torch.from_numpy(each) for each in factors]).numpy()
    return Warped((values * 255 + 0.5).clip(0, 255).astype(np.uint8), top, left)


def _weights(pixels: int, cells: int, scale: float, offset: float) -> tuple[int, Map]:
    """The first of the pixels whose centre is on the map, and how much of each cell each of them shows.

    Returns:
        The index of the first pixel, and shape (pixels on the map, cells), with rows that sum to 1. Beyond the centre
        of an outermost cell its value holds on.
    """
    centres = (np.arange(pixels) + 0.5 - offset) / scale
    inside = np.flatnonzero((centres >= 0) & (centres < cells))
    positions = (centres[inside] - 0.5).clip(0, cells - 1)
    lower = np.floor(positions).astype(np.intp)
    share = (positions - lower).astype(np.float32)
    weights = np.zeros((len(inside), cells), np.float32)
    rows = np.arange(len(inside))
    weights[rows, lower] = 1 - share
    weights[rows, np.minimum(lower + 1, cells - 1)] += share
    return (int(inside[0]) if len(inside) else 0), weights


def map_png(warped: Warped, picture: tuple[int, int]) -> bytes:
    """8-bit greyscale PNG of (height, width) `picture`; 0 where the network saw nothing."""
    canvas = np.zeros(picture, np.uint8)
    rows, columns = warped.values.shape
    canvas[warped.top : warped.top + rows, warped.left : warped.left + columns] = warped.values
    return _png(Image.fromarray(canvas), _MAP)


def overlay_png(image: Image.Image, warped: Warped, color_map: str, opacity: float) -> bytes:
    """PNG of the image with the map in colour over it; the image stays as it is where the network saw nothing.

    Args:
        image: mode RGB, in the size that `warped` was made for.
        warped: the map.
        color_map: "viridis", "cividis" or "inferno".
        opacity: 0 (only the image) to 1 (only the map).
    """
    rows, columns = warped.values.shape
    box = (warped.left, warped.top, warped.left + columns, warped.top + rows)
    colours = Image.fromarray(color_table(color_map)[warped.values])
    drawn = image.copy()
    drawn.paste(Image.blend(image.crop(box), colours, opacity), box)
    return _png(drawn, _PHOTO)


@functools.cache
def color_table(name: str) -> NDArray[np.uint8]:
    """Shape (256, 3): the RGB colour of each grey value."""
    import matplotlib  # slow to import, and not needed by workers that never draw

    table = matplotlib.colormaps[name](np.arange(256))[:, :3]
    colours: NDArray[np.uint8] = np.rint(table * 255).astype(
        np.uint8
    )  # matplotlib's own bytes are cut off, not rounded
    return colours


def _png(image: Image.Image, options: dict[str, int]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()
