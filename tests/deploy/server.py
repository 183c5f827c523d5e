"""A real Prometheus on loopback for the length of a block, and questions to it."""

import contextlib
import json
import math
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.deploy.prometheus_tools import PrometheusTools
from tests.deploy.queries import RULES

SCRAPE, EVALUATE = "1s", "500ms"


class QueryError(Exception):
    """Prometheus refused a query. The message is what it said."""


@dataclass(frozen=True)
class Prometheus:
    """A running server.

    Attributes:
        url: its address.
    """

    url: str

    def get(self, path: str, **parameters: str) -> dict[str, object]:
        """The `data` of an answer of the HTTP API."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:  # noqa: S310 - ours
                data: dict[str, object] = json.load(answer)["data"]
                return data
        except urllib.error.HTTPError as error:
            raise QueryError(json.load(error)["error"]) from None

    def series(self, expr: str) -> list[dict[str, str]]:
        """The labels of each series that a query gives now, without those whose value is no number.

        Raises:
            QueryError: it is not PromQL, or cannot be evaluated.
        """
        result = self.get("query", query=expr)["result"]
        assert isinstance(result, list)
        return [each["metric"] for each in result if not math.isnan(float(each["value"][1]))]


@contextlib.contextmanager
def running(tools: PrometheusTools, targets: Mapping[str, str], folder: Path) -> Iterator[Prometheus]:
    """Start Prometheus with the project's rules, evaluated at short intervals; stop it at the end.

    Args:
        tools: the programs.
        targets: host:port to scrape, by job.
        folder: for its configuration, data and log.
    """
    config, log = _configured(targets, folder), folder / "log"
    address = f"127.0.0.1:{_free_port()}"
    command = [tools.prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], cwd=folder, stdout=stream, stderr=stream
        )
    try:
        _wait_until_ready(f"http://{address}", process, log)
        yield Prometheus(f"http://{address}")
    finally:
        process.kill()  # its data is thrown away
        process.wait()


def _configured(targets: Mapping[str, str], folder: Path) -> Path:
    """The rules as they are, but for the groups' own intervals, which would be longer than the test."""
    for path in RULES:
        groups = yaml.safe_load(path.read_text())["groups"]
        shortened = [{**group, "interval": EVALUATE} for group in groups]
        (folder / path.name).write_text(yaml.safe_dump({"groups": shortened}))
    jobs = [{"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()]
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE},
                "rule_files": [path.name for path in RULES],
                "scrape_configs": jobs,
            }
        )
    )
    return config


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=1):  # noqa: S310 - ours
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"Prometheus did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
