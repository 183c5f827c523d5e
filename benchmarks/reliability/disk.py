"""A small file system that can be full."""

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SIZE = 8  # MiB
_BLOCK = bytes(4096)


class Disk:
    """A folder.

    Attributes:
        folder: its path.
        small: whether it is a file system of its own; else it cannot be filled.
    """

    def __init__(self, folder: Path, *, small: bool) -> None:
        self.folder = folder
        self.small = small

    async def be_full(self, seconds: float) -> None:
        """Leave no room for some time: what somebody deletes meanwhile is taken, too."""
        ballast = Path(self.folder, "ballast")
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                _fill(ballast)
                await asyncio.sleep(0.02)
        finally:
            os.unlink(ballast)


def _fill(ballast: Path) -> None:
    with ballast.open("ab", buffering=0) as stream:
        try:
            while True:
                stream.write(_BLOCK)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


@contextlib.contextmanager
def small_disk() -> Iterator[Disk]:
    """A file system in memory for the length of a block; a common folder where this user may not mount one."""
    with tempfile.TemporaryDirectory(prefix="whylight-disk-") as name:
        small = _mount(name)
        try:
            yield Disk(Path(name), small=small)
        finally:
            if small:
                subprocess.run(["umount", name], check=True)  # noqa: S603, S607 - a program of the system


def _mount(folder: str) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    options = f"size={SIZE}m,mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
