"""From what Python calls an image to the bytes that are sent, and from these to the pixels that were meant."""

import io
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""An image: the path of a file, the bytes of one (JPEG, PNG, WebP or BMP), a Pillow image, or an array.

Files are sent as they are, the others as PNG, without loss. An array has the shape (height, width, 3) in RGB or
(height, width) in grey, with uint8, or with floats in [0, 1], which are rounded to 8 bits.
"""

# Modes of Pillow that PNG keeps as they are; the others are converted to RGB.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_UNCLEAR_MODES = ("I", "F")
_QUICK: dict[str, int] = {"compress_level": 1}


def encode(image: ImageLike) -> bytes:
    """The bytes to send.

    Raises:
        OSError: the file cannot be read.
        TypeError: it is none of `ImageLike`, or an array of another data type.
        ValueError: an array of another shape or range, or a Pillow image whose range nobody knows.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    if isinstance(image, Image.Image):
        return _png(_presentable(image))
    if isinstance(image, np.ndarray):
        return _png(Image.fromarray(_to_bytes(image)))
    raise TypeError(f"an image is a path, bytes, a Pillow image or a NumPy array, not {type(image).__name__}")


def decode(data: bytes) -> Image.Image:
    """The pixels of a file, upright and in RGB, as the service sees them.

    Raises:
        PIL.UnidentifiedImageError: not an image.
    """
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            # 16-bit grey, which Pillow would clip at 255.
            grey = (np.asarray(upright, np.uint32).clip(0, 65535) + 128) // 257
            upright = Image.fromarray(grey.astype(np.uint8))
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")
        return upright.convert("RGB")


def to_png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    return _png(image)


def _presentable(image: Image.Image) -> Image.Image:
    """Upright, and in a mode that PNG has."""
    if image.mode in _UNCLEAR_MODES:
        raise ValueError(f"the range of a Pillow image of mode {image.mode} is not known: convert it to L or RGB")
    upright = ImageOps.exif_transpose(image)
    return upright if upright.mode in _PNG_MODES else upright.convert("RGB")


def _to_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise ValueError(f"an image has the shape (height, width, 3) or (height, width), not {array.shape}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"an image has uint8, or floats in [0, 1], not {array.dtype}")
    if not (array.min() >= 0 and array.max() <= 1):  # false of NaN, too
        raise ValueError("the floats of an image lie in [0, 1]")
    rounded: NDArray[np.uint8] = np.rint(array * 255).astype(np.uint8)
    return rounded


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **_QUICK)
    return buffer.getvalue()
