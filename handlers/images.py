"""Encoded bytes of a stranger to an upright RGB image."""

import io
import logging
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from handlers.errors import ImageEmptyError, ImageFormatError, ImageTooLargeError, ImageTruncatedError
from handlers.settings import Limits
from handlers.structure import check_structure

# At DEBUG Pillow writes the metadata of every image to the log: names of patients, too.
logging.getLogger("PIL").setLevel(logging.WARNING)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
ACCEPTED = "JPEG, PNG, WebP or BMP"
_ORIENTATION_TAG = 0x0112
# What has to be done to the stored pixels to see the image upright, by EXIF orientation; 1 is upright.
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class DecodedImage:
    """An image as it was understood.

    Attributes:
        pixels: mode RGB, upright.
        format: one of FORMATS.
        orientation: EXIF orientation of the file, 1 to 8.
    """

    pixels: Image.Image
    format: str
    orientation: int


class _Silence:
    """Nobody hears Pillow's warnings while it is entered, by any number of threads.

    It warns of bombs and of odd metadata: the limit here is stricter, and the rest is the client's affair. The filters
    belong to the process: who comes first sets them, and who leaves last puts back what was there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: warnings.catch_warnings[None]

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


_SILENCE = _Silence()


def decode(data: bytes, limits: Limits) -> DecodedImage:
    """Decode an image after checking how large it will be.

    The first frame of an animation counts. Colour profiles are ignored and transparency is dropped, as in the usual
    training pipelines. 16-bit greyscale is scaled to 8 bits.

    Raises:
        ImageEmptyError: no bytes.
        ImageFormatError: not an image, or not in one of FORMATS.
        ImageTruncatedError: damaged or incomplete.
        ImageTooLargeError: above the limits, in bytes or in pixels, or of too many parts.
    """
    if not data:
        raise ImageEmptyError("the image is empty")
    if len(data) > limits.max_image_bytes:
        raise ImageTooLargeError(f"the image has more than {limits.max_image_bytes} bytes")
    check_structure(data)
    with _SILENCE:
        image = _open(data)
        if 0 in image.size:
            raise ImageTruncatedError("the image has no pixels")
        if image.width * image.height > limits.max_pixels:
            raise ImageTooLargeError(f"the image has more than {limits.max_pixels} pixels")
        return _load(image)


def _open(data: bytes) -> Image.Image:
    """Read the header only; no pixel is decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, MemoryError):
        raise ImageTooLargeError("the image has too many pixels") from None
    except Exception as error:
        _refuse_bomb(error)
        # Damaged files make Pillow raise nearly anything, and it says "unidentified" of a file cut within its header.
        if _has_signature(data):
            raise ImageTruncatedError("the image is damaged or incomplete") from None
        raise ImageFormatError(f"not an image, or not {ACCEPTED}") from None


def _load(image: Image.Image) -> DecodedImage:
    """Decode the pixels."""
    try:
        image.load()
        orientation = _orientation(image)
        pixels = _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:
        _refuse_bomb(error)
        raise ImageTruncatedError("the image is damaged or incomplete") from None
    if orientation != 1:
        pixels = pixels.transpose(_TO_UPRIGHT[orientation])
    # Pillow calls a JPEG with several pictures, as some cameras write it, MPO.
    name = "JPEG" if image.format == "MPO" else str(image.format)
    return DecodedImage(pixels, name, orientation)


def _refuse_bomb(error: Exception) -> None:
    """Tell compressed metadata that would fill the memory, which Pillow refuses, from a damaged file."""
    if isinstance(error, ValueError) and any(text in str(error) for text in ("too large", "Too much memory")):
        raise ImageTooLargeError("the metadata of the image is too large") from None


def _has_signature(data: bytes) -> bool:
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")) or (data[:4], data[8:12]) == (
        b"RIFF",
        b"WEBP",
    )


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where there is no EXIF data, or none that makes sense."""
    try:
        value: Any = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in _TO_UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Pillow's `convert("RGB")`, but for the two modes that it gets wrong."""
    if image.mode.startswith("I"):
        # 16-bit greyscale, which Pillow would clip at 255.
        grey = (np.asarray(image, np.uint32).clip(0, 65535) + 128) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
