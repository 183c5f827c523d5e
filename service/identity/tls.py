"""The server's certificate, and the authority of the clients' certificates: read again when the files change."""

import ssl
from pathlib import Path

import grpc

from service.identity.watched import UnusableFileError, WatchedFiles


def server_credentials(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """TLS for a server; with `client_ca` only for clients that have a certificate of that authority (mTLS).

    gRPC asks for the certificate at every handshake: new connections get the new one, open ones keep theirs. A pair
    that cannot be used is logged, and the old one stays.

    Args:
        certificate: PEM file of the server's certificate, followed by those that lead to its authority.
        key: PEM file of its private key, not encrypted.
        client_ca: PEM file of the authority of the clients' certificates.

    Raises:
        UnusableFileError: a file cannot be read, or they do not belong together.
    """
    paths = [path for path in (certificate, key, client_ca) if path is not None]
    files = WatchedFiles("certificate", paths, lambda: _load(certificate, key, client_ca))

    def changed() -> grpc.ServerCertificateConfiguration | None:
        return files.value if files.refresh() else None

    required = client_ca is not None
    return grpc.dynamic_ssl_server_credentials(files.value, changed, required)  # type: ignore[arg-type]  # may be None


def _load(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCertificateConfiguration:
    try:
        pair = (key.read_bytes(), certificate.read_bytes())
        authority = client_ca.read_bytes() if client_ca is not None else None
    except OSError as error:
        raise UnusableFileError(f"a certificate or key cannot be read: {error.strerror}") from None
    _check(certificate, key, authority)
    return grpc.ssl_server_certificate_configuration([pair], authority)


def _check(certificate: Path, key: Path, authority: bytes | None) -> None:
    """What gRPC would only notice at the first handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # without it, a locked key asks the terminal
    except (ssl.SSLError, OSError, ValueError):
        raise UnusableFileError("the certificate and the key are no PEM, or do not belong together") from None
    if authority is not None:
        try:
            context.load_verify_locations(cadata=authority.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise UnusableFileError("the authority of the clients' certificates is no PEM") from None
