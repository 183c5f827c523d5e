"""The client's side of identity: whom it trusts, and what it shows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from service.settings import is_loopback


class CallError(Exception):
    """The service refused, or could not be reached. The message says what to do about it.

    Attributes:
        code: name of the status, for example "NOT_FOUND"; empty where nothing was sent.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Access:
    """How to connect. Without anything: no TLS and no token, as the service on loopback wants it by default.

    Attributes:
        tls: connect with TLS, trusting the authorities that gRPC knows.
        tls_ca: connect with TLS, trusting this PEM file of authorities instead.
        client_certificate: PEM file of the client's own certificate, for mTLS.
        client_key: PEM file of its private key.
        token: bearer token.
    """

    tls: bool = False
    tls_ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def open(self, address: str, options: Sequence[tuple[str, int]]) -> grpc.Channel:
        """A channel to `address` (host:port) with gRPC's `options`.

        Raises:
            CallError: it is no such address, a file cannot be used, one of a pair is missing, or the token would be
                sent in the clear.
        """
        if ":" not in address or address.startswith(("http:", "https:")):
            raise CallError(f"{address} is no address of the service: write host:port, such as 127.0.0.1:50051")
        if (self.client_certificate is None) != (self.client_key is None):
            raise CallError("a client certificate and its key go together")
        if self.tls or self.tls_ca is not None:
            return grpc.secure_channel(address, self._credentials(), options=options)
        if self.client_certificate is not None:
            raise CallError("a client certificate needs TLS: add --tls-ca or --tls")
        if self.token and not is_loopback(address.rpartition(":")[0].strip("[]")):
            raise CallError("a token is not sent to another machine without TLS: add --tls-ca or --tls")
        return grpc.insecure_channel(address, options=options)

    def _credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            root_certificates=_read_certificates(self.tls_ca, "authorities"),
            private_key=_read(self.client_key, "client key"),
            certificate_chain=_read_certificates(self.client_certificate, "client certificate"),
        )


def _read_certificates(path: Path | None, what: str) -> bytes | None:
    content = _read(path, what)
    if content is not None and b"-----BEGIN CERTIFICATE-----" not in content:
        raise CallError(f"no certificate in the file of the {what}: it must be PEM")
    return content


def _read(path: Path | None, what: str) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise CallError(f"cannot read the {what}: {error.strerror}") from None
