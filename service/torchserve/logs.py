"""Passes what Java and its workers print on to the service's log."""

import asyncio
import logging
import re

java_log = logging.getLogger("service.torchserve.java")
worker_log = logging.getLogger("service.torchserve.worker")

_LONGEST_LINE = 16 * 1024  # bytes; a longer one is cut in pieces
_JAVA_LINE = re.compile(r"(TRACE|DEBUG|INFO|WARN|ERROR|FATAL) (\S+) (.*)", re.DOTALL)
_LEVELS = {"WARN": logging.WARNING, "ERROR": logging.ERROR, "FATAL": logging.CRITICAL}
# What each worker says in an ordinary life. Anything else is worth a warning: TorchServe does not pass levels on.
_ORDINARY = re.compile(
    r"s_name_part0=|Listening on |Successfully loaded .*metrics|\[PID\]\d|Torch worker started|Python runtime: "
    r"|Connection accepted: |model_name: |model \S+ \S+ loaded on |Backend received inference at|Frontend disconnected"
    r"|\[METRICS\]"
)
_ORDINARY_JAVA = re.compile(r"WARNING: sun\.reflect\.|nvidia-smi not available|Model server (started|stopped)")


class LogReader(asyncio.Protocol):
    """The reading end of Java's output. The workers' lines come through Java, under the logger MODEL_LOG."""

    def __init__(self) -> None:
        self._rest = b""
        self.closed = asyncio.Event()
        self._level = logging.WARNING  # of the last line with a level; the lines of a stack trace have none

    def data_received(self, data: bytes) -> None:
        """Log every complete line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self.log(line.decode(errors="replace").rstrip())

    def connection_lost(self, exc: Exception | None) -> None:
        """Every process that could write has ended."""
        self.closed.set()

    def log(self, line: str) -> None:
        """Log one line at the level that it deserves."""
        match = _JAVA_LINE.fullmatch(line)
        if match is None:
            java_log.log(logging.DEBUG if _ORDINARY_JAVA.match(line) else self._level, "%s", line)
            return
        level, logger, text = match.groups()
        if logger == "MODEL_LOG":
            worker_log.log(logging.DEBUG if _ORDINARY.match(text) else logging.WARNING, "%s", text)
            return
        self._level = _LEVELS.get(level, logging.INFO)
        java_log.log(self._level, "%s: %s", logger, text)
