"""TLS: who is let in by their certificate, and a server's certificate that changes while it runs."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.starting import StartError
from tests.service.fakes import Front, front, open_channel
from tests.service.identity.certificates import Authority, Issued
from tests.service.identity.people import bearer, entry, write_clients


@dataclass
class Site:
    """A folder of certificates and a clients file, with the settings that name them."""

    folder: Path
    authority: Authority
    server: Issued

    @property
    def tls(self) -> dict[str, object]:
        certificate, key = self.server.write(self.folder, "server")
        return {"tls_certificate": certificate, "tls_key": key}

    @property
    def mutual(self) -> dict[str, object]:
        path = self.folder / "authority.pem"
        path.write_bytes(self.authority.pem)
        return {**self.tls, "tls_client_ca": path}

    def clients(self, *entries: str) -> dict[str, object]:
        return {"clients_file": write_clients(self.folder / "clients.toml", *entries)}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    authority = Authority()
    return Site(tmp_path, authority, authority.for_server())


async def ask(service: Front, credentials: grpc.ChannelCredentials | None, metadata: object = ()) -> grpc.StatusCode:
    """The status of a call on a connection of its own."""
    async with open_channel(service.address, credentials) as channel:
        stub = api_grpc.ExplanationServiceStub(channel)
        try:
            await stub.ListModels(api.ListModelsRequest(), metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_a_client_that_trusts_the_authority_is_answered(site: Site) -> None:
    """TLS without identity on loopback: the right authority is answered, another one and no TLS are not."""
    async with front(**site.tls) as service:
        assert await ask(service, site.authority.trusted_by()) is grpc.StatusCode.OK
        assert await ask(service, Authority().trusted_by()) is grpc.StatusCode.UNAVAILABLE
        assert await ask(service, None) is grpc.StatusCode.UNAVAILABLE


async def test_a_token_goes_over_tls(site: Site) -> None:
    """TLS says nothing of who calls: the token still decides."""
    async with front(**site.tls, **site.clients(entry("a", "explain"))) as service:
        assert await ask(service, site.authority.trusted_by(), bearer("a")) is grpc.StatusCode.OK
        assert await ask(service, site.authority.trusted_by(), bearer("b")) is grpc.StatusCode.UNAUTHENTICATED
        assert await ask(service, site.authority.trusted_by()) is grpc.StatusCode.UNAUTHENTICATED


async def test_mtls_lets_nobody_connect_without_a_certificate_of_its_authority(site: Site) -> None:
    """No certificate and one of another authority end in the handshake, whatever token comes with them."""
    stranger = Authority().issue("viewer")
    async with front(**site.mutual, **site.clients(entry("a", "explain"))) as service:
        assert await ask(service, site.authority.trusted_by(), bearer("a")) is grpc.StatusCode.UNAVAILABLE
        assert await ask(service, site.authority.trusted_by(stranger), bearer("a")) is grpc.StatusCode.UNAVAILABLE
        known = site.authority.issue("anybody")
        assert await ask(service, site.authority.trusted_by(known), bearer("a")) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("common_name", "alternative_names", "status"),
    [
        ("viewer", [], grpc.StatusCode.OK),
        ("anything", [x509.DNSName("viewer")], grpc.StatusCode.OK),
        ("anything", [x509.DNSName("other"), x509.UniformResourceIdentifier("viewer")], grpc.StatusCode.OK),
        ("viewer", [x509.DNSName("other")], grpc.StatusCode.UNAUTHENTICATED),
        ("viewer2", [], grpc.StatusCode.UNAUTHENTICATED),
        ("auditor", [], grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_a_certificate_identifies_its_client(
    common_name: str, alternative_names: list[x509.GeneralName], status: grpc.StatusCode, site: Site
) -> None:
    """By a subject alternative name; by the common name only where there are none."""
    entries = entry("viewer", "explain", certificate="viewer"), entry("auditor", "audit", certificate="auditor")
    credentials = site.authority.trusted_by(site.authority.issue(common_name, alternative_names))
    async with front(credentials=credentials, **site.mutual, **site.clients(*entries)) as service:
        try:
            await service.stub.Predict(api.PredictRequest(model="tiny", image=b"x"), timeout=10)
            got = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            got = error.code()
        assert got is status


async def test_a_token_that_is_bound_to_a_certificate_is_nothing_without_it(site: Site) -> None:
    """A stolen token does not help on another client's connection."""
    both = entry("a", "explain", shows="token-a", certificate="a")
    other = entry("b", "explain", certificate="b")
    async with front(**site.mutual, **site.clients(both, other)) as service:
        a, b = (site.authority.trusted_by(site.authority.issue(name)) for name in "ab")
        assert await ask(service, a, bearer("a")) is grpc.StatusCode.OK
        assert await ask(service, b, bearer("a")) is grpc.StatusCode.UNAUTHENTICATED
        assert await ask(service, a) is grpc.StatusCode.UNAUTHENTICATED
        assert await ask(service, b) is grpc.StatusCode.OK


async def test_a_new_certificate_is_served_without_a_restart(site: Site) -> None:
    """New connections get the new certificate; the one that is open goes on."""
    newer = Authority()
    async with front(credentials=site.authority.trusted_by(), **site.tls) as service:
        await service.stub.ListModels(api.ListModelsRequest())
        newer.for_server().write(site.folder, "server")
        assert await ask(service, newer.trusted_by()) is grpc.StatusCode.OK
        assert await ask(service, site.authority.trusted_by()) is grpc.StatusCode.UNAVAILABLE
        await service.stub.ListModels(api.ListModelsRequest())


async def test_a_new_authority_of_clients_counts_without_a_restart(site: Site) -> None:
    """After the change only certificates of the new authority connect."""
    newer = Authority()
    async with front(**site.mutual, **site.clients(entry("a", "explain", certificate="a"))) as service:
        old, new = (
            grpc.ssl_channel_credentials(site.authority.pem, issued.key, issued.certificate)
            for issued in (site.authority.issue("a"), newer.issue("a"))
        )
        assert [await ask(service, each) for each in (old, new)] == [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE]
        (site.folder / "authority.pem").write_bytes(newer.pem)
        assert [await ask(service, each) for each in (old, new)] == [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK]


async def test_a_broken_new_pair_leaves_the_old_one_and_is_logged_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate whose key has not arrived yet is not served; when it has, it is."""
    issued = site.authority.for_server()
    async with front(**site.tls) as service:
        (site.folder / "server.pem").write_bytes(Authority().for_server().certificate)
        for _ in range(3):
            assert await ask(service, site.authority.trusted_by()) is grpc.StatusCode.OK
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1
        assert "the old one stays" in lines[0]
        assert str(site.folder) not in lines[0]
        issued.write(site.folder, "server")
        assert await ask(service, site.authority.trusted_by()) is grpc.StatusCode.OK


@pytest.mark.parametrize("fault", ["missing", "other key", "no PEM", "no authority"])
def test_no_service_starts_with_a_certificate_that_cannot_be_used(fault: str, site: Site) -> None:
    """It stops the start with a sentence without a path, and never falls back to plain text."""
    settings = site.mutual
    if fault == "missing":
        (site.folder / "server.key").unlink()
    elif fault == "other key":
        (site.folder / "server.key").write_bytes(site.authority.issue("x").key)
    elif fault == "no PEM":
        (site.folder / "server.pem").write_bytes(b"\xff\x00")
    else:
        (site.folder / "authority.pem").write_bytes(b"\xff\x00")

    async def start() -> None:
        async with front(**settings):
            raise AssertionError("it runs")

    with pytest.raises(StartError) as caught:
        asyncio.run(start())
    assert str(site.folder) not in str(caught.value)
