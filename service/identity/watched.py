"""Files that are read again when they change."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


class UnusableFileError(Exception):
    """A file cannot be used. The message is for the operator: it names no path and quotes nothing of a secret."""


class WatchedFiles(Generic[T]):
    """What was last read from some files without a fault. Safe from many threads.

    Attributes:
        value: that.
    """

    def __init__(self, what: str, paths: Sequence[Path], load: Callable[[], T]) -> None:
        """Read for the first time.

        Args:
            what: names the files in the log.
            paths: the files.
            load: reads them.

        Raises:
            UnusableFileError: `load` raised it.
        """
        self._what = what
        self._paths = paths
        self._load = load
        self._lock = threading.Lock()
        self._seen = self._signature()
        self.value = load()

    def refresh(self) -> bool:
        """Read again if a file has changed; whether there is a new value. Broken files are logged once and ignored."""
        with self._lock:
            signature = self._signature()  # before reading: a change in between is found the next time
            if signature == self._seen:
                return False
            self._seen = signature
            try:
                self.value = self._load()
            except UnusableFileError as error:
                logger.error("the new %s cannot be used, the old one stays: %s", self._what, error)
                return False
            logger.info("the %s was read again", self._what)
            return True

    def _signature(self) -> tuple[object, ...]:
        return tuple(_look(path) for path in self._paths)


def _look(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
