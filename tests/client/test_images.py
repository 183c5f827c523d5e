"""From what Python calls an image to the bytes that are sent."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.images import decode as decode_by_worker
from handlers.settings import Limits
from whylight_client.images import decode, encode

COLOUR = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8)
GREY = COLOUR[:, :, 0]


def sent(data: bytes) -> np.ndarray:
    """The pixels that the worker sees."""
    return np.asarray(decode_by_worker(data, Limits()).pixels)


def jpeg(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_files_and_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    """Nothing is decoded on the way: the worker gets the file."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"any bytes")
    assert encode(path) == encode(str(path)) == encode(b"any bytes") == b"any bytes"


@pytest.mark.parametrize(
    "image",
    [COLOUR, COLOUR / 255, (COLOUR / 255).astype(np.float32), np.asfortranarray(COLOUR), Image.fromarray(COLOUR)],
)
def test_arrays_and_pillow_images_lose_nothing(image: np.ndarray | Image.Image) -> None:
    """The worker sees every pixel as it was, whatever the type and the memory layout."""
    np.testing.assert_array_equal(sent(encode(image)), COLOUR)


@pytest.mark.parametrize("image", [GREY, GREY / 255, Image.fromarray(GREY), Image.fromarray(GREY * np.uint16(257))])
def test_grey_is_the_same_in_all_channels(image: np.ndarray | Image.Image) -> None:
    """Two dimensions are enough, and 16 bits of Pillow are scaled, not cut off."""
    np.testing.assert_array_equal(sent(encode(image)), np.repeat(GREY[:, :, None], 3, axis=2))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_modes_that_png_lacks_are_converted(mode: str) -> None:
    """As Pillow converts them to RGB."""
    image = Image.fromarray(COLOUR).convert(mode)  # type: ignore[arg-type]
    np.testing.assert_array_equal(sent(encode(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (COLOUR.transpose(2, 0, 1), ValueError, "shape"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, "shape"),
        (np.zeros((0, 4), np.uint8), ValueError, "shape"),
        (COLOUR.astype(np.int64), TypeError, "int64"),
        (COLOUR.astype(np.float32), ValueError, r"\[0, 1\]"),
        (np.full((2, 2), np.nan), ValueError, r"\[0, 1\]"),
        (np.full((2, 2), -0.1), ValueError, r"\[0, 1\]"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array: np.ndarray, error: type[Exception], words: str) -> None:
    """Another order of axes, another type or another range is never guessed."""
    with pytest.raises(error, match=words):
        encode(array)


def test_other_things_are_refused() -> None:
    """With what an image can be; and a Pillow image of floats, whose range nobody knows."""
    with pytest.raises(TypeError, match="a path, bytes"):
        encode([[1, 2], [3, 4]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode F"):
        encode(Image.new("F", (2, 2)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_counts_in_files_and_in_pillow_images(orientation: int) -> None:
    """A photograph opened by Pillow is the same image as its file, upright; here as for the worker."""
    data = jpeg(orientation)
    upright = sent(data)
    np.testing.assert_array_equal(sent(encode(Image.open(io.BytesIO(data)))), upright)
    np.testing.assert_array_equal(np.asarray(decode(data)), upright)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_the_client_sees_the_pixels_that_the_worker_sees(mode: str) -> None:
    """For the overlay, in every mode of PNG."""
    image = Image.fromarray(GREY * np.uint16(257)) if mode == "I;16" else Image.fromarray(COLOUR).convert(mode)  # type: ignore[arg-type]
    data = encode(image)
    np.testing.assert_array_equal(np.asarray(decode(data)), sent(data))
