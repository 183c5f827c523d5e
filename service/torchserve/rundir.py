"""The private directory of one run of TorchServe: its sockets, keys and unpacked archives."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "whylight-"
_LOCK = "lock"
# A unix socket's path has at most 107 bytes. The longest of ours is Java's own: <directory>/tmp/.ts.sock.<number>
_LONGEST_DIRECTORY = 107 - len("/tmp/.ts.sock.99999")  # noqa: S108 - a length, not a path


_FRESH = 60.0  # seconds within which a directory is left alone: its maker may not hold the lock yet


class RunDirectory:
    """A directory that only its owner can enter, and the lock that shows that it is in use.

    Attributes:
        path: the directory.
        lock: file descriptor of the lock; whoever holds a copy of it keeps the directory in use.
    """

    def __init__(self, parent: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self.lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        self._removed = False
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the directory, if nobody has done so, and let go of the lock. May be called again."""
        if not self._removed:
            self._removed = True
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self.lock)


def create(parent: Path | None = None) -> RunDirectory:
    """Make a run directory, and remove those that dead services have left.

    Args:
        parent: where; by default the temporary directory, or /tmp where that one's path is too long for sockets.
    """
    parent = parent or Path(tempfile.gettempdir())
    if len(os.fsencode(parent / f"{_PREFIX}12345678")) > _LONGEST_DIRECTORY:
        parent = Path("/tmp")  # noqa: S108 - mkdtemp makes the name unpredictable and the directory private
    remove_stale(parent)
    return RunDirectory(parent)


def remove_stale(parent: Path) -> list[Path]:
    """Remove this user's run directories that nobody holds, and return them."""
    stale = [path for path in parent.glob(f"{_PREFIX}????????") if _is_stale(path)]
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return stale


def _is_stale(path: Path) -> bool:
    try:
        status = path.lstat()
        if status.st_uid != os.getuid() or time.time() - status.st_mtime < _FRESH:
            return False
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
