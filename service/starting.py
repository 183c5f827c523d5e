"""What whoever starts the service gets: one that runs, or the reason why it cannot."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from service.monitor import Monitor


class StartError(Exception):
    """The service cannot start. The message is for the person who started it."""


@dataclass(frozen=True)
class Running:
    """A service that answers.

    Attributes:
        address: host:port of the gRPC API.
        metrics: URL of the Prometheus endpoint.
        monitor: knows when every model is ready.
    """

    address: str
    metrics: str
    monitor: Monitor


def write_ready_file(path: Path, service: Running) -> None:
    """Tell whoever waits for the file where the service listens; the file appears whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"address": service.address, "metrics": service.metrics}))
    draft.replace(path)


async def wait_until_ready(service: Running, timeout: float) -> None:
    """Wait until every model is ready.

    Raises:
        StartError: not within `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            await service.monitor.all_ready.wait()
    except TimeoutError:
        raise StartError(f"not every model became ready within {timeout:g} seconds") from None
