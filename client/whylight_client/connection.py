"""How a client connects: whom it trusts, what it shows, and what gRPC tries again."""

import ipaddress
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 60.0
_MEBIBYTE = 1024 * 1024

# gRPC tries again, within the deadline, what found no service or no worker (UNAVAILABLE) or no room
# (RESOURCE_EXHAUSTED), after 0.2, 0.4, ... seconds or when the service says, and never when the service says not to.
# When most calls fail it stops trying again until some succeed: `retryThrottling`.
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "explain.v1.ExplanationService"}, {"service": "google.longrunning.Operations"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.5},
}


@dataclass(frozen=True)
class Connection:
    """How to connect.

    Attributes:
        address: "host:port".
        token: bearer token.
        tls: True trusts the authorities that gRPC knows, a path those of this PEM file; False connects without TLS.
        certificate: PEM files of the client's own certificate and its private key, for mTLS.
        retry: whether gRPC tries again.
    """

    address: str
    token: str | None = field(default=None, repr=False)
    tls: bool | str | os.PathLike[str] = False
    certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None
    retry: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot work, or would be unsafe.

        Raises:
            ValueError: no such address, a certificate without TLS, or a token that would be sent to another machine
                in the clear.
        """
        if ":" not in self.address or self.address.startswith(("http:", "https:")):
            raise ValueError(f"{self.address!r} is no address of the service: write host:port, as {DEFAULT_ADDRESS!r}")
        if self.tls:
            return
        if self.certificate is not None:
            raise ValueError("a client certificate needs TLS: tls=True, or a file of authorities")
        if self.token and not _is_loopback(self.address):
            raise ValueError("a token is not sent to another machine without TLS: tls=True, or a file of authorities")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def open(self) -> grpc.Channel:
        """A channel.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file holds no certificate.
        """
        if self.tls:
            return grpc.secure_channel(self.address, self._credentials(), options=self._options())
        return grpc.insecure_channel(self.address, options=self._options())

    def open_async(self) -> grpc.aio.Channel:
        """A channel for asyncio.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file holds no certificate.
        """
        if self.tls:
            return grpc.aio.secure_channel(self.address, self._credentials(), options=self._options())
        return grpc.aio.insecure_channel(self.address, options=self._options())

    def _options(self) -> list[tuple[str, Any]]:
        return [
            ("grpc.max_receive_message_length", 256 * _MEBIBYTE),
            ("grpc.enable_retries", int(self.retry)),
            ("grpc.service_config", json.dumps(SERVICE_CONFIG if self.retry else {})),
            # gRPC keeps a request until it is answered to send it again, but by default none above 256 KiB.
            ("grpc.per_rpc_retry_buffer_size", 64 * _MEBIBYTE),
        ]

    def _credentials(self) -> grpc.ChannelCredentials:
        chain, key = self.certificate or (None, None)
        authorities = None if isinstance(self.tls, bool) else self.tls
        return grpc.ssl_channel_credentials(
            _read_certificates(authorities), private_key=_read(key), certificate_chain=_read_certificates(chain)
        )


def _read_certificates(path: str | os.PathLike[str] | None) -> bytes | None:
    content = _read(path)
    if content is not None and b"-----BEGIN CERTIFICATE-----" not in content:
        raise ValueError(f"no certificate in {os.fspath(path or '')}: it must be PEM")
    return content


def _read(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _is_loopback(address: str) -> bool:
    """Whether only this machine has the address."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
