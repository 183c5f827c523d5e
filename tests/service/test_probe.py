"""The probe of containers, against a health service in this process."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from service import probe
from tests.service.identity.certificates import Authority

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a health service that says `status` of everything; gives its address."""
    started: list[grpc.Server] = []

    def start(status: int, credentials: grpc.ServerCredentials | None = None) -> str:
        server = grpc.server(ThreadPoolExecutor(1))
        servicer = health.HealthServicer()
        servicer.set("", status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = (
            server.add_secure_port("localhost:0", credentials)
            if credentials
            else server.add_insecure_port("localhost:0")
        )
        server.start()
        started.append(server)
        return f"localhost:{port}"

    yield start
    for server in started:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("status", "words", "code"), [(SERVING, [], 0), (NOT_SERVING, [], 1), (NOT_SERVING, ["--alive"], 0)]
)
def test_the_exit_status_is_the_answer(
    serve: Serve, status: int, words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that is not serving is unwell, but alive."""
    assert probe.main(["--address", serve(status), *words]) == code
    assert capsys.readouterr().err == ("NOT_SERVING\n" if code else "")


def test_nobody_there_is_unwell(capsys: pytest.CaptureFixture[str]) -> None:
    """Alive or not."""
    assert probe.main(["--address", "localhost:1", "--alive", "--timeout", "2"]) == 1
    assert capsys.readouterr().err in ("UNAVAILABLE\n", "DEADLINE_EXCEEDED\n")


def test_a_model_that_is_not_there_is_unwell(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """The health service knows it not."""
    assert probe.main(["--address", serve(SERVING), "--service", "models/none"]) == 1
    assert capsys.readouterr().err == "NOT_FOUND\n"


def test_the_services_own_certificate_is_enough_to_trust(serve: Serve, tmp_path: Path) -> None:
    """So a container needs no authority besides; with mTLS the probe shows a certificate of its own."""
    authority = Authority()
    server, client = authority.for_server(), authority.issue("probe")
    credentials = grpc.ssl_server_credentials([(server.key, server.certificate)], authority.pem, True)
    address = serve(SERVING, credentials)
    for name, content in (("server", server.certificate), ("client", client.certificate), ("key", client.key)):
        (tmp_path / name).write_bytes(content)
    trusting = ["--address", address, "--tls-ca", str(tmp_path / "server"), "--timeout", "2"]
    shown = ["--client-cert", str(tmp_path / "client"), "--client-key", str(tmp_path / "key")]
    assert probe.main([*trusting, *shown]) == 0
    assert probe.main(trusting) == 1


def test_a_file_that_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its path."""
    assert probe.main(["--tls-ca", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == "a file cannot be read: No such file or directory\n"
