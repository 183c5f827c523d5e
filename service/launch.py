"""Run the whole service as a process of its own for the length of a block: for demos, tests and benchmarks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


class LaunchError(Exception):
    """The service did not become ready. The message ends with what it printed."""


@dataclass(frozen=True)
class Launched:
    """A service that runs in a process of its own.

    Attributes:
        address: host:port of the gRPC API.
        metrics: URL of the Prometheus endpoint.
        process: the service's process.
        log: file with everything that it prints.
    """

    address: str
    metrics: str
    process: "subprocess.Popen[bytes]"
    log: Path


@contextlib.contextmanager
def launched(settings: Mapping[str, object] | None = None, timeout: float = 330.0) -> Iterator[Launched]:
    """Start `whylight serve` on free loopback ports, wait until every model is ready, and stop it at the end.

    Args:
        settings: service settings by name (service/settings.py), besides the ports.
        timeout: seconds to wait for it.

    Raises:
        LaunchError: it ended, or was not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix="whylight-launch-") as folder:
        ready, log = Path(folder, "ready.json"), Path(folder, "log")
        chosen = {"port": 0, "metrics_port": 0, "ready_file": ready, **(settings or {})}
        environment = {**os.environ, **{f"WHYLIGHT_{name.upper()}": str(value) for name, value in chosen.items()}}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"], stdout=stream, stderr=stream, env=environment
            )
        try:
            _wait_for(ready, process, log, timeout)
            addresses = json.loads(ready.read_text())
            yield Launched(addresses["address"], addresses["metrics"], process, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            process.wait()


def _wait_for(ready: Path, process: "subprocess.Popen[bytes]", log: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            what = "ended" if process.poll() is not None else "was not ready in time"
            raise LaunchError(f"the service {what}; it printed:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)
