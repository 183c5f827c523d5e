"""How TorchServe is started and kept running."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.torchserve.config import Limits


@dataclass(frozen=True)
class SupervisorOptions:
    """Everything but the models.

    Attributes:
        java: the Java program.
        python: the Python that runs the workers; torchserve is installed there.
        limits: TorchServe's own limits.
        heap: most memory of Java's heap, as -Xmx takes it.
        start_timeout: seconds within which Java must answer. Its workers load their models after that.
        healthy_after: seconds after which a run counts as good, and the next restart is a fast one again.
        grace: seconds between SIGTERM and SIGKILL in an orderly stop. Java needs two to four.
        run_parent: where the run directories are made; None for the temporary directory.
        environment: variables for Java and the workers besides those that are passed on.
    """

    java: Path
    python: Path = field(default_factory=lambda: Path(sys.executable))
    limits: Limits = field(default_factory=Limits)
    heap: str = "512m"
    start_timeout: float = 60.0
    healthy_after: float = 60.0
    grace: float = 8.0
    run_parent: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
