"""A model as TorchServe is told to serve it."""

import re
from dataclasses import dataclass
from pathlib import Path

# TorchServe puts names and versions into URLs, a properties file and file names.
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ServedModel:
    """One registration: a name with its own queue and workers. Two of them may share an archive.

    Attributes:
        name: unique among the models of one TorchServe.
        version: as in the archive's manifest; with another one TorchServe ignores the figures below.
        archive: the .mar file.
        workers: number of worker processes, each with weights of its own.
        batch_size: most requests in one batch.
        max_batch_delay_ms: milliseconds that a batch waits for one more request; 0 counts as 1, TorchServe's shortest.
        response_timeout_s: seconds for one batch; a worker that takes longer is killed.
    """

    name: str
    version: str
    archive: Path
    workers: int = 1
    batch_size: int = 1
    max_batch_delay_ms: int = 0
    response_timeout_s: int = 120

    def __post_init__(self) -> None:
        """Refuse what TorchServe would misread."""
        for value in (self.name, self.version):
            if not _SAFE.fullmatch(value):
                raise ValueError(f"letters, digits, dots, dashes and underscores only: {value!r}")
        if min(self.workers, self.batch_size, self.response_timeout_s) < 1 or self.max_batch_delay_ms < 0:
            raise ValueError(f"workers, batch size and timeout of {self.name} must be positive")
