"""Decoding what strangers send."""

import contextlib
import io
import resource
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from handlers.errors import ImageEmptyError, ImageError, ImageFormatError, ImageTooLargeError, ImageTruncatedError
from handlers.images import decode
from handlers.settings import Limits
from tests.handlers.pictures import black_png, chunk, encode, photograph

LIMITS = Limits()
RED = (255, 0, 0)

# The stored picture is AB / CD / EF. What an upright viewer shows for each EXIF orientation, from the EXIF standard's
# words: 6, for example, says that row 0 is the visual right-hand side and column 0 the visual top.
UPRIGHT = {
    1: ["AB", "CD", "EF"],
    2: ["BA", "DC", "FE"],
    3: ["FE", "DC", "BA"],
    4: ["EF", "CD", "AB"],
    5: ["ACE", "BDF"],
    6: ["ECA", "FDB"],
    7: ["FDB", "ECA"],
    8: ["BDF", "ACE"],
}
LETTERS = {
    "A": (255, 0, 0),
    "B": (0, 255, 0),
    "C": (0, 0, 255),
    "D": (255, 255, 0),
    "E": (0, 255, 255),
    "F": (255, 255, 255),
}
CELL = 16


def letters(rows: list[str]) -> Image.Image:
    cells = np.array([[LETTERS[letter] for letter in row] for row in rows], np.uint8)
    return Image.fromarray(cells.repeat(CELL, 0).repeat(CELL, 1))


def read(image: Image.Image) -> list[str]:
    """The letter whose colour is nearest to the middle of each cell."""
    middles = np.asarray(image, int)[CELL // 2 :: CELL, CELL // 2 :: CELL]
    names = list(LETTERS)
    colours = np.array([LETTERS[name] for name in names])
    nearest = np.abs(middles[:, :, None] - colours).sum(-1).argmin(-1)
    return ["".join(names[index] for index in row) for row in nearest]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_orientation(image_format: str, orientation: int) -> None:
    """All eight orientations come out upright, and are reported."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encode(letters(UPRIGHT[1]), image_format, exif=exif.tobytes(), quality=95), LIMITS)
    assert read(decoded.pixels) == UPRIGHT[orientation]
    assert (decoded.format, decoded.orientation) == (image_format, orientation)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_senseless_orientation_counts_as_upright(value: int) -> None:
    """Cameras write such values."""
    exif = Image.Exif()
    exif[0x0112] = value
    decoded = decode(encode(letters(UPRIGHT[1]), "JPEG", exif=exif.tobytes()), LIMITS)
    assert (read(decoded.pixels), decoded.orientation) == (UPRIGHT[1], 1)


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    """The pixels are good."""
    decoded = decode(encode(letters(UPRIGHT[1]), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff garbage"), LIMITS)
    assert read(decoded.pixels) == UPRIGHT[1]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_formats(image_format: str) -> None:
    """Each accepted format, its name and its size."""
    decoded = decode(encode(photograph(30, 40), image_format), LIMITS)
    assert (decoded.format, decoded.pixels.mode, decoded.pixels.size) == (image_format, "RGB", (40, 30))
    assert decoded.orientation == 1


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "ICO", "PPM", "JPEG2000"])
def test_other_formats_are_refused(image_format: str) -> None:
    """Pillow knows many more formats, each with a decoder that nobody asked for."""
    with pytest.raises(ImageFormatError) as caught:
        decode(encode(photograph(32, 32), image_format), LIMITS)
    assert (caught.value.reason, caught.value.field) == ("IMAGE_FORMAT", "image")


def test_camera_jpeg_with_two_pictures() -> None:
    """Its first picture counts, and it is a JPEG to people."""
    data = encode(photograph(), "MPO", save_all=True, append_images=[photograph(seed=1)])
    assert decode(data, LIMITS).format == "JPEG"


def test_first_frame_of_an_animation() -> None:
    """As the preview in any file browser."""
    red, blue = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), "blue")
    decoded = decode(encode(red, "WEBP", save_all=True, append_images=[blue], lossless=True), LIMITS)
    assert decoded.pixels.getpixel((0, 0)) == RED


def test_16_bit_greyscale_is_scaled() -> None:
    """Pillow's own conversion clips: nearly every medical image would be white."""
    values = np.array([[0, 257, 32768, 65535, 128, 129]], np.uint16)
    decoded = decode(encode(Image.fromarray(values)), LIMITS)
    assert np.asarray(decoded.pixels)[0, :, 0].tolist() == [0, 1, 128, 255, 0, 1]


def test_modes() -> None:
    """Everything becomes RGB; where there is transparency the colours below it count."""
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, *RED])
    pictures = {
        "RGBA": encode(Image.new("RGBA", (4, 4), (*RED, 0))),
        "P": encode(palette),
        "P with transparency": encode(palette, transparency=bytes([0, 128])),
        "CMYK": encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100),
        "WebP with alpha": encode(Image.new("RGBA", (4, 4), (*RED, 255)), "WEBP", lossless=True),
    }
    for name, data in pictures.items():
        image = decode(data, LIMITS).pixels
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image, int)[1, 1] - RED).max() <= 2, name
    grey = {"L": 77, "LA": (77, 10), "1": 1}
    for mode, value in grey.items():
        pixel = np.asarray(decode(encode(Image.new(mode, (4, 4), value)), LIMITS).pixels)[1, 1]
        assert pixel.tolist() == [255 if mode == "1" else 77] * 3


def test_empty() -> None:
    """No bytes."""
    with pytest.raises(ImageEmptyError) as caught:
        decode(b"", LIMITS)
    assert caught.value.reason == "IMAGE_EMPTY"


@pytest.mark.parametrize("data", [b"hello", b"\0" * 1000, b"%PDF-1.7", b"<svg/>", b"RIFF\0\0\0\0WAVE"])
def test_not_an_image(data: bytes) -> None:
    """The message names the formats and holds nothing of the data."""
    with pytest.raises(ImageFormatError, match="JPEG, PNG, WebP or BMP"):
        decode(data, LIMITS)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated(image_format: str) -> None:
    """Cut anywhere from behind the signature to the middle of the pixels."""
    data = encode(photograph(200, 300), image_format)
    for share in (0.02, 0.1, 0.5, 0.9):
        with pytest.raises(ImageTruncatedError) as caught:
            decode(data[: max(16, int(len(data) * share))], LIMITS)
        assert caught.value.reason == "IMAGE_TRUNCATED"


def test_damage_is_either_decoded_or_named() -> None:
    """Whatever bytes change, no other exception than ours comes out."""
    generator = np.random.default_rng(0)
    for image_format in ("JPEG", "PNG", "WEBP", "BMP"):
        good = encode(photograph(40, 50), image_format)
        for _ in range(150):
            data = bytearray(good)
            for _ in range(generator.integers(1, 13)):
                data[generator.integers(len(data))] = generator.integers(256)
            with contextlib.suppress(ImageError):
                decode(bytes(data), LIMITS)


def test_too_many_bytes() -> None:
    """Refused before anything looks at them."""
    with pytest.raises(ImageTooLargeError, match="more than 10 bytes"):
        decode(b"x" * 11, Limits(max_image_bytes=10))


def test_bomb_is_refused_before_it_is_decoded() -> None:
    """30000 x 30000 pixels in about 100 kB: neither time nor memory is spent, and no warning leaks."""
    data = black_png(30_000, 30_000)
    assert len(data) < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(ImageTooLargeError) as caught:
        decode(data, LIMITS)
    assert caught.value.reason == "IMAGE_TOO_LARGE"
    assert time.perf_counter() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@pytest.mark.parametrize(("width", "height", "fits"), [(1000, 100, True), (1001, 100, False), (100_001, 1, False)])
def test_pixel_limit(width: int, height: int, fits: bool) -> None:
    """Exactly the limit is still accepted."""
    limits = Limits(max_pixels=100_000)
    if fits:
        assert decode(black_png(width, height), limits).pixels.size == (width, height)
    else:
        with pytest.raises(ImageTooLargeError, match="more than 100000 pixels"):
            decode(black_png(width, height), limits)


def test_between_our_limit_and_pillows() -> None:
    """Pillow only warns there; its warning must not leak."""
    with pytest.raises(ImageTooLargeError):
        decode(black_png(10_000, 12_000), LIMITS)


@pytest.mark.parametrize("side", [16_000, 1 << 24])
def test_webp_canvas_bomb(side: int) -> None:
    """The header alone promises gigabytes."""
    size = struct.pack("<I", side - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + size + b"VP8 " + bytes(20)
    with pytest.raises((ImageTooLargeError, ImageTruncatedError)):
        decode(b"RIFF" + struct.pack("<I", len(body)) + body, LIMITS)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_metadata_bomb(name: bytes) -> None:
    """A text or a colour profile of 100 MB in 100 kB."""
    payload = zlib.compress(bytes(100_000_000))
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[name]
    data = black_png(8, 8, chunk(name, head + payload))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageTooLargeError, match="metadata"):
        decode(data, LIMITS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_no_pixels() -> None:
    """A BMP may say that it is 0 pixels wide."""
    data = bytearray(encode(photograph(8, 8), "BMP"))
    data[18:22] = bytes(4)
    with pytest.raises(ImageTruncatedError):
        decode(bytes(data), LIMITS)


def test_strips() -> None:
    """One pixel high or wide is an image."""
    assert decode(black_png(50_000, 1), LIMITS).pixels.size == (50_000, 1)
    assert decode(black_png(1, 50_000), LIMITS).pixels.size == (1, 50_000)


def test_no_global_state_changes() -> None:
    """Others in the process use Pillow, too."""
    before = Image.MAX_IMAGE_PIXELS
    decode(encode(photograph()), LIMITS)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(black_png(10_000, 10_000)))
