"""How a file is put together, looked at before anything decodes it.

Pillow walks over the parts of a file in Python, and libjpeg over the whole picture for each scan: a file of a few
megabytes that consists of nothing else would keep a worker busy for minutes.
"""

import re

from handlers.errors import ImageTooLargeError

# Chunks of a PNG or segments of a JPEG. A PNG of 256 MB whose encoder writes 8 KB at a time has 32,768.
MOST_PARTS = 50_000
# Of a progressive JPEG. libjpeg's own script makes 10 of a colour picture.
MOST_SCANS = 50

# Bytes of a run-length encoded BMP, which Pillow decodes in Python.
MOST_RUNS = 1_000_000

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# What libjpeg takes for the next marker: escaped bytes, restarts and others without a length are skipped. Of several
# 0xff the last one counts. A pattern that begins with one certain byte is looked for 14 times as fast as with `\xff+`.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
_END, _SCAN = 0xD9, 0xDA
_OS2 = 12  # size of the oldest header, which knows no compression


def check_structure(data: bytes) -> None:
    """Refuse what only costs time.

    Raises:
        ImageTooLargeError: a PNG or JPEG of too many parts, a JPEG of too many scans, or a BMP of too many runs.
    """
    if data.startswith(_PNG):
        _check_png(data)
    elif data.startswith(_JPEG):
        _check_jpeg(data)
    elif data.startswith(b"BM"):
        runs = int.from_bytes(data[30:34], "little") in (1, 2) and int.from_bytes(data[14:18], "little") > _OS2
        _require(not runs or len(data) <= MOST_RUNS, "runs")


def _check_png(data: bytes) -> None:
    position, parts = len(_PNG), 0
    while position < len(data):
        parts += 1
        _require(parts <= MOST_PARTS, "parts")
        position += 12 + int.from_bytes(data[position : position + 4])  # length, name, content, checksum


def _check_jpeg(data: bytes) -> None:
    position, parts, scans = 2, 0, 0
    while (found := _MARKER.search(data, position)) is not None:
        marker = found[1][0]
        if marker == _END:
            return
        parts += 1
        scans += marker == _SCAN
        _require(parts <= MOST_PARTS, "parts")
        _require(scans <= MOST_SCANS, "scans")
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ImageTooLargeError(f"the image has too many {what}")
