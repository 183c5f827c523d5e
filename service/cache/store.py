"""Bytes that are kept in memory: a bounded number of them, for a while."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from service.cache.metrics import CacheMetrics

OVERHEAD = 300  # bytes of an entry besides its value; 285 measured
LARGEST_SHARE = 8  # an entry takes at most an eighth of the room, so that one answer cannot drive out all others


@dataclass(frozen=True)
class _Entry:
    value: bytes
    since: float


class Store:
    """Keeps values for `lifetime` seconds at most, and at most `capacity` bytes of them.

    What was used longest ago makes room. Using a value does not make it live longer.
    """

    def __init__(
        self, capacity: int, lifetime: float, metrics: CacheMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = capacity
        self._lifetime = lifetime
        self._metrics = metrics
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> tuple[bytes, float] | None:
        """What is kept under a key of 32 bytes and its age in seconds, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = self._clock() - entry.since
        if age >= self._lifetime:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.value, age

    def put(self, key: bytes, value: bytes) -> None:
        """Keep a value in place of what was there, unless it is too large to be kept."""
        self._drop(key)
        if _size(value) * LARGEST_SHARE > self._capacity:
            return
        self._entries[key] = _Entry(value, self._clock())
        self._bytes += _size(value)
        while self._bytes > self._capacity:
            self._drop(next(iter(self._entries)))
            self._metrics.evictions.inc()
        self._tell()

    async def tidy(self) -> None:
        """Drop what is too old: also where nobody asks for it any more, nothing stays."""
        now = self._clock()
        for key in [key for key, entry in self._entries.items() if now - entry.since >= self._lifetime]:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(entry.value)
            self._tell()

    def _tell(self) -> None:
        self._metrics.bytes.set(self._bytes)
        self._metrics.entries.set(len(self._entries))


def _size(value: bytes) -> int:
    return len(value) + OVERHEAD
