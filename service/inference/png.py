"""Pixels as an encoded image, which is all that the workers take."""

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT_RGB = (8, 2, 0, 0, 0)  # bits, colour type, compression, filter, interlace


def encode_png(pixels: bytes, width: int, height: int) -> bytes:
    """A PNG of these pixels, without loss and not compressed: it only goes to the worker beside.

    Args:
        pixels: height x width x 3 bytes, row by row, red, green, blue.
        width: at least 1.
        height: the same.
    """
    stride = 3 * width
    rows = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, height * stride, stride))
    header = struct.pack(">IIBBBBB", width, height, *_EIGHT_BIT_RGB)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
