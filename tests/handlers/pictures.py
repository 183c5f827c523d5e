"""Encoded images for tests, good and bad."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encode(pixels: Any, image_format: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """Encode an array or a Pillow image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8), mode)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def photograph(height: int = 48, width: int = 64, seed: int = 0) -> Image.Image:
    """Smooth random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def flat(value: int, side: int = 32) -> bytes:
    """A PNG of one grey."""
    return encode(np.full((side, side, 3), value))


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def black_png(width: int, height: int, extra: bytes = b"") -> bytes:
    """A 1-bit black PNG made without ever holding its pixels; `extra` goes before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    compressor = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join([*(compressor.compress(row) for _ in range(height)), compressor.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")
