"""Certificates for tests: an authority, and what it signs."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ALTERNATIVE_NAMES = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


@dataclass(frozen=True)
class Issued:
    """A certificate with its private key, in PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both as NAME.pem and NAME.key, replacing what is there."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(content)
        return paths


class Authority:
    """Signs certificates."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority")
        certificate = _build(self._name, self._name, self._key, self._key, [], authority=True)
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, common_name: str, alternative_names: list[x509.GeneralName] | None = None) -> Issued:
        """A new key with its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _build(_name(common_name), self._name, key, self._key, alternative_names or [], authority=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), private)

    def for_server(self) -> Issued:
        """A certificate for a server on this machine."""
        return self.issue("server", ALTERNATIVE_NAMES)

    def trusted_by(self, client: Issued | None = None) -> grpc.ChannelCredentials:
        """The credentials of a client that trusts this authority and shows its own certificate."""
        shown = (client.key, client.certificate) if client else (None, None)
        return grpc.ssl_channel_credentials(self.pem, *shown)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _build(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    alternative_names: list[x509.GeneralName],
    *,
    authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if alternative_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
    return builder.sign(signer, hashes.SHA256())
