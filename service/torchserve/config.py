"""The files that TorchServe is started with: config.properties and its logging configuration."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.torchserve.model import ServedModel

# 1,900 years. The keys die with the process; one that runs for months must not lose them after an hour.
_TOKEN_EXPIRATION_MIN = 1_000_000_000

# By default there is one per processor: with two, requests of 32 callers came in too slowly to fill the batches.
_FEWEST_THREADS = 8
# TorchServe reads 0 as its default of 100 ms, by which each lone request would be late.
_SHORTEST_BATCH_DELAY_MS = 1


@dataclass(frozen=True)
class Limits:
    """Sizes that TorchServe enforces by itself.

    Attributes:
        max_request_bytes: largest request body. An image plus a few hundred bytes must fit.
        max_response_bytes: largest answer. TorchServe kills a worker that answers with more.
        queue_size: requests that wait for one model. The service admits work before it comes here, so this is never
            the limit that is hit first.
        startup_timeout_s: seconds for a worker to load its model.
    """

    max_request_bytes: int = 32 * 1024 * 1024
    max_response_bytes: int = 256 * 1024 * 1024
    queue_size: int = 10_000
    startup_timeout_s: int = 300


@dataclass(frozen=True)
class Layout:
    """The files of one run of TorchServe, all of them in its private directory."""

    root: Path

    @property
    def inference_socket(self) -> Path:
        """Socket of the inference interface."""
        return self.root / "inference.sock"

    @property
    def management_socket(self) -> Path:
        """Socket of the management interface."""
        return self.root / "management.sock"

    @property
    def metrics_socket(self) -> Path:
        """Socket of TorchServe's own Prometheus figures."""
        return self.root / "metrics.sock"

    @property
    def key_file(self) -> Path:
        """Where TorchServe, started in `root`, writes its tokens."""
        return self.root / "key_file.json"

    @property
    def store(self) -> Path:
        """Folder of links to the archives."""
        return self.root / "store"

    @property
    def temporary(self) -> Path:
        """Unpacked archives, and the sockets between Java and its workers."""
        return self.root / "tmp"

    @property
    def properties(self) -> Path:
        """TorchServe's configuration."""
        return self.root / "config.properties"

    @property
    def logging(self) -> Path:
        """Log4j's configuration."""
        return self.root / "log4j2.xml"


def write_files(layout: Layout, models: Sequence[ServedModel], limits: Limits, grpc_ports: tuple[int, int]) -> None:
    """Fill a fresh run directory.

    Args:
        layout: the directory, which exists and is empty.
        models: what to serve.
        limits: TorchServe's own limits.
        grpc_ports: free loopback ports for the two gRPC interfaces, which cannot be switched off.
    """
    layout.store.mkdir()
    layout.temporary.mkdir()
    for model in models:
        _archive_link(layout, model).symlink_to(model.archive.resolve())
    layout.properties.write_text(properties(layout, models, limits, grpc_ports), encoding="utf-8")
    layout.logging.write_text(LOGGING, encoding="utf-8")


def properties(layout: Layout, models: Sequence[ServedModel], limits: Limits, grpc_ports: tuple[int, int]) -> str:
    """The text of config.properties. Arguments as for `write_files`."""
    inference_port, management_port = grpc_ports
    entries = {
        "inference_address": f"unix:{layout.inference_socket}",
        "management_address": f"unix:{layout.management_socket}",
        "metrics_address": f"unix:{layout.metrics_socket}",
        "grpc_inference_address": "127.0.0.1",
        "grpc_inference_port": inference_port,
        "grpc_management_address": "127.0.0.1",
        "grpc_management_port": management_port,
        "metrics_mode": "prometheus",
        "disable_system_metrics": "true",  # it would start a Python process every minute
        "disable_token_authorization": "false",
        "token_expiration_min": _TOKEN_EXPIRATION_MIN,
        "enable_model_api": "false",
        "enable_envvars_config": "false",
        "install_py_dep_per_model": "false",
        "allowed_urls": f"file://{layout.store}/.*",
        "max_request_size": limits.max_request_bytes,
        "max_response_size": limits.max_response_bytes,
        "job_queue_size": limits.queue_size,
        "number_of_netty_threads": max(_FEWEST_THREADS, os.cpu_count() or 1),
        "default_workers_per_model": 1,
        "load_models": ",".join(f"{model.name}={_archive_link(layout, model).name}" for model in models),
        "models": json.dumps(_model_entries(layout, models, limits)),
    }
    return "".join(f"{name}={value}\n" for name, value in entries.items())


def _model_entries(layout: Layout, models: Sequence[ServedModel], limits: Limits) -> dict[str, object]:
    return {
        model.name: {
            model.version: {
                "defaultVersion": True,
                "marName": _archive_link(layout, model).name,
                "minWorkers": model.workers,
                "maxWorkers": model.workers,
                "batchSize": model.batch_size,
                "maxBatchDelay": max(model.max_batch_delay_ms, _SHORTEST_BATCH_DELAY_MS),
                "responseTimeout": model.response_timeout_s,
                "startupTimeout": limits.startup_timeout_s,
            }
        }
        for model in models
    }


def _archive_link(layout: Layout, model: ServedModel) -> Path:
    return layout.store / f"{model.name}.mar"


# Warnings of Java and every line of the workers (MODEL_LOG: a model that does not load says why there), to standard
# output, where logs.py reads them. Level and logger first: logs.py goes by them.
LOGGING = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR">
  <Appenders>
    <Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%p %c{1} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="io.netty" level="error"/>
    <Logger name="MODEL_LOG" level="info"/>
    <Root level="warn"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"""
