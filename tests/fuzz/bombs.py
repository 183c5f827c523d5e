"""Files that are small to send and meant to be large or slow to decode."""

import gzip
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from tests.handlers.pictures import black_png, chunk, encode, photograph

MEGABYTE = 1_000_000
PNG = b"\x89PNG\r\n\x1a\n"
Make = Callable[[], bytes]


def png_header(width: int, height: int, depth: int = 8, colours: int = 2, interlaced: bool = False) -> bytes:
    """Signature and IHDR."""
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, int(interlaced)))


def zeros(count: int) -> bytes:
    """As many zero bytes, deflated."""
    compressor = zlib.compressobj(9)
    parts = [compressor.compress(bytes(MEGABYTE)) for _ in range(count // MEGABYTE)]
    return b"".join([*parts, compressor.compress(bytes(count % MEGABYTE)), compressor.flush()])


def png_of_zeros(
    width: int, height: int, depth: int, colours: int, interlaced: bool = False, extra: bytes = b""
) -> bytes:
    """A PNG of zeros, with all the bytes that its header promises (some more where it is interlaced)."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colours]
    row = 1 + (width * channels * depth + 7) // 8
    data = zeros(row * height * (2 if interlaced else 1))
    header = png_header(width, height, depth, colours, interlaced)
    return header + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_with_metadata(name: bytes, megabytes: int) -> bytes:
    """A text or a colour profile of many megabytes in a small picture."""
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[name]
    return black_png(8, 8, chunk(name, head + zeros(megabytes * MEGABYTE)))


def png_of_many_chunks(count: int, name: bytes = b"tEXt", content: bytes = b"k\0v") -> bytes:
    """A small picture behind very many chunks."""
    return black_png(8, 8, chunk(name, content) * count)


def exif_of_copies(entries: int, size: int) -> bytes:
    """A directory whose entries all point to the same `size` bytes: who copies each has them `entries` times."""
    end = 8 + 2 + 12 * entries + 4
    directory = b"".join(struct.pack(">HHII", tag, 7, size, end) for tag in range(entries))
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", entries) + directory + bytes(4) + bytes(size)


def png_with_exif(entries: int, size: int) -> bytes:
    """The same in a PNG."""
    return black_png(8, 8, chunk(b"eXIf", exif_of_copies(entries, size)))


def webp_with_exif(entries: int, size: int) -> bytes:
    """The same in a WebP."""
    return encode(photograph(8, 8), "WEBP", exif=b"Exif\0\0" + exif_of_copies(entries, size))


def jpeg_with_exif(entries: int, size: int) -> bytes:
    """The same in a JPEG, in as many segments as it needs."""
    exif = exif_of_copies(entries, size)
    parts = [exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    return _with_segments([(0xE1, b"Exif\0\0" + part) for part in parts])


def jpeg_of_many_segments(count: int, marker: int = 0xE5, content: bytes = b"") -> bytes:
    """A small picture behind very many segments."""
    return _with_segments([(marker, content)] * count)


def _with_segments(segments: list[tuple[int, bytes]]) -> bytes:
    good = encode(photograph(16, 16), "JPEG")
    made = b"".join(struct.pack(">BBH", 255, marker, len(content) + 2) + content for marker, content in segments)
    return good[:2] + made + good[2:]


def jpeg_of_many_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each makes the decoder walk over the whole picture."""
    good = encode(Image.new("RGB", (side, side), "gray"), "JPEG", progressive=True)
    last = good.rindex(b"\xff\xda")
    return good[:last] + good[last:-2] * count + good[-2:]


def jpeg_with_size(width: int, height: int) -> bytes:
    """A JPEG that says that it is that large."""
    good = bytearray(encode(photograph(16, 16), "JPEG"))
    frame = good.index(b"\xff\xc0")
    good[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(good)


def bmp_with_size(width: int, height: int, header: int = 40) -> bytes:
    """A BMP that says that it, or its header, is that large."""
    good = bytearray(encode(photograph(8, 8), "BMP"))
    good[14:18] = struct.pack("<I", header)
    good[18:26] = struct.pack("<ii", width, height)
    return bytes(good)


def bmp_of_runs(side: int, size: int) -> bytes:
    """Run-length encoding in runs of one pixel: as much work as bytes."""
    palette = bytes(4 * 256)
    offset = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, size, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + size, 0, 0, offset) + info + palette + b"\x01\x00" * (size // 2)


def animation(image_format: str, frames: int, side: int) -> bytes:
    """Very many frames."""
    pictures = [Image.new("RGB", (side, side), (number % 256, number // 256, 0)) for number in range(frames)]
    return encode(pictures[0], image_format, save_all=True, append_images=pictures[1:])


def tiff(width: int, height: int) -> bytes:
    """A deflated TIFF of zeros."""
    return encode(np.zeros((height, width), np.uint8), "TIFF", compression="tiff_adobe_deflate")


def webp_canvas(side: int) -> bytes:
    """A WebP that promises a canvas."""
    size = struct.pack("<I", side - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + size + b"VP8 " + bytes(20)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# By name: how it is made, and the reasons with which it may be refused; "OK" where it is an image after all.
BOMBS: Mapping[str, tuple[Make, frozenset[str]]] = {
    "PNG, 30,000 x 30,000": (lambda: black_png(30_000, 30_000), frozenset({"IMAGE_TOO_LARGE"})),
    "PNG, 2^31 x 2^31": (lambda: png_header(2**31 - 1, 2**31 - 1), frozenset({"IMAGE_TOO_LARGE", "IMAGE_TRUNCATED"})),
    "PNG, interlaced 16-bit RGBA, 20,000 x 20,000": (
        lambda: png_header(20_000, 20_000, 16, 6, True) + chunk(b"IDAT", zeros(MEGABYTE)),
        frozenset({"IMAGE_TOO_LARGE"}),
    ),
    "PNG, the largest allowed, interlaced 16-bit RGBA": (
        lambda: png_of_zeros(7_071, 7_071, 16, 6, interlaced=True), frozenset({"OK"}),
    ),
    "PNG, more data than pixels (500 MB)": (
        lambda: png_header(8, 8) + chunk(b"IDAT", zeros(500 * MEGABYTE)) + chunk(b"IEND", b""),
        frozenset({"OK", "IMAGE_TRUNCATED"}),
    ),
    "PNG, iCCP of 300 MB": (lambda: png_with_metadata(b"iCCP", 300), frozenset({"IMAGE_TOO_LARGE"})),
    "PNG, zTXt of 300 MB": (lambda: png_with_metadata(b"zTXt", 300), frozenset({"IMAGE_TOO_LARGE"})),
    "PNG, iTXt of 300 MB": (lambda: png_with_metadata(b"iTXt", 300), frozenset({"IMAGE_TOO_LARGE"})),
    "PNG, 1,000,000 text chunks": (lambda: png_of_many_chunks(1_000_000), frozenset({"IMAGE_TOO_LARGE"})),
    "PNG, 1,300,000 unknown chunks": (
        lambda: png_of_many_chunks(1_300_000, b"quUx", b""), frozenset({"IMAGE_TOO_LARGE"}),
    ),
    "PNG, EXIF with 60,000 copies of 10 MB": (lambda: png_with_exif(60_000, 10 * MEGABYTE), frozenset({"OK"})),
    "WebP, EXIF with 60,000 copies of 10 MB": (lambda: webp_with_exif(60_000, 10 * MEGABYTE), frozenset({"OK"})),
    "JPEG, EXIF with 60,000 copies of 10 MB": (
        lambda: jpeg_with_exif(60_000, 10 * MEGABYTE), frozenset({"OK"}),
    ),
    "JPEG, 65,535 x 65,535": (lambda: jpeg_with_size(65_535, 65_535), frozenset({"IMAGE_TOO_LARGE"})),
    "JPEG, 20,000 scans of 4,000 x 4,000": (lambda: jpeg_of_many_scans(4_000, 20_000), frozenset({"IMAGE_TOO_LARGE"})),
    "JPEG, 3,900,000 segments": (lambda: jpeg_of_many_segments(3_900_000), frozenset({"IMAGE_TOO_LARGE"})),
    "BMP, 2^31 x 2^31": (
        lambda: bmp_with_size(2**31 - 1, 2**31 - 1), frozenset({"IMAGE_TOO_LARGE", "IMAGE_TRUNCATED"}),
    ),
    "BMP, header of 4 GB": (
        lambda: bmp_with_size(8, 8, 2**32 - 1), frozenset({"IMAGE_TRUNCATED", "IMAGE_FORMAT"}),
    ),
    "BMP, 15 MB of runs of one pixel": (
        lambda: bmp_of_runs(7_000, 15 * MEGABYTE), frozenset({"IMAGE_TOO_LARGE"}),
    ),
    "WebP, canvas of 2^24 x 2^24": (lambda: webp_canvas(2**24), frozenset({"IMAGE_TOO_LARGE", "IMAGE_TRUNCATED"})),
    "WebP, 2,000 frames": (lambda: animation("WEBP", 2_000, 64), frozenset({"OK"})),
    "APNG, 2,000 frames": (lambda: animation("PNG", 2_000, 64), frozenset({"OK"})),
    "GIF, 2,000 frames": (lambda: animation("GIF", 2_000, 64), frozenset({"IMAGE_FORMAT"})),
    "TIFF, 20,000 x 20,000": (lambda: tiff(20_000, 20_000), frozenset({"IMAGE_FORMAT"})),
    "TIFF behind a PNG's signature": (lambda: PNG + tiff(100, 100), frozenset({"IMAGE_TRUNCATED", "IMAGE_FORMAT"})),
    "gzip of a PNG": (lambda: gzip.compress(black_png(30_000, 30_000)), frozenset({"IMAGE_FORMAT"})),
}  # fmt: skip
