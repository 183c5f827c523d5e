"""Files of very many parts are refused before anything walks over them."""

import struct

import pytest
from PIL import Image

from handlers.errors import ImageTooLargeError
from handlers.images import decode
from handlers.settings import Limits
from handlers.structure import MOST_PARTS, MOST_RUNS, MOST_SCANS, check_structure
from tests.fuzz.bombs import bmp_of_runs, jpeg_of_many_scans, jpeg_of_many_segments, png_of_many_chunks
from tests.handlers.pictures import encode, photograph


@pytest.mark.parametrize(
    "data",
    [
        png_of_many_chunks(MOST_PARTS),
        jpeg_of_many_segments(MOST_PARTS),
        jpeg_of_many_scans(64, MOST_SCANS),
        bmp_of_runs(1000, MOST_RUNS),
    ],
    ids=["chunks", "segments", "scans", "runs"],
)
def test_too_many_parts(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and without asking Pillow."""
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ImageTooLargeError, match="too many") as caught:
        decode(data, Limits())
    assert caught.value.reason == "IMAGE_TOO_LARGE"


def test_fill_bytes_hide_no_marker() -> None:
    """A marker may begin with any number of 0xff."""
    data = jpeg_of_many_scans(64, MOST_SCANS).replace(b"\xff\xda", b"\xff\xff\xff\xda")
    with pytest.raises(ImageTooLargeError, match="scans"):
        check_structure(data)


@pytest.mark.parametrize(
    "data",
    [png_of_many_chunks(100), jpeg_of_many_segments(100), jpeg_of_many_scans(64, 20)],
    ids=["PNG", "JPEG", "scans"],
)
def test_many_parts_are_still_a_picture(data: bytes) -> None:
    """Far more than an encoder writes."""
    assert decode(data, Limits()).pixels.size in ((8, 8), (16, 16), (64, 64))


def test_what_is_behind_the_picture_does_not_count() -> None:
    """Phones append a film to a photograph: its bytes are no scans."""
    data = encode(photograph(), "JPEG") + b"\xff\xda\0\2" * 1000
    assert decode(data, Limits()).format == "JPEG"


def test_a_thumbnail_does_not_count() -> None:
    """A JPEG within a segment of a JPEG is not looked into."""
    exif = Image.Exif()
    exif[0x9286] = b"\xff\xda" * 1000
    assert decode(encode(photograph(), "JPEG", exif=exif.tobytes()), Limits()).format == "JPEG"


@pytest.mark.parametrize(
    "end", [b"", b"\xff", b"\xff\xda", b"\xff\xe1\0", b"\xff\xe1\0\0" * 9, struct.pack(">I", 2**32 - 1)]
)
def test_a_file_that_ends_anywhere(end: bytes) -> None:
    """Pillow says what is wrong with it."""
    check_structure(b"\xff\xd8\xff" + end)
    check_structure(b"\x89PNG\r\n\x1a\n" + end)
