"""Whom the client trusts and what it shows."""

from pathlib import Path

import pytest

from whylight_client.connection import Connection


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/whylight"])
def test_a_token_may_go_to_this_machine_in_the_clear(address: str) -> None:
    """As the service on loopback wants it by default."""
    assert Connection(address, token="secret").metadata == (("authorization", "Bearer secret"),)  # noqa: S106


@pytest.mark.parametrize("address", ["192.0.2.1:1", "example.org:1", "dns:///localhost:1", "localhost.example.org:1"])
def test_a_token_goes_to_no_other_machine_in_the_clear(address: str) -> None:
    """It is refused before anything is sent, and fine with TLS."""
    with pytest.raises(ValueError, match="without TLS"):
        Connection(address, token="secret")  # noqa: S106
    Connection(address, token="secret", tls=True)  # noqa: S106


@pytest.mark.parametrize("address", ["localhost", "http://localhost:50051", "https://example.org:443"])
def test_an_address_is_host_and_port(address: str) -> None:
    """gRPC would take each for a name, or for port 443."""
    with pytest.raises(ValueError, match="write host:port"):
        Connection(address)


def test_a_file_without_a_certificate_is_said(tmp_path: Path) -> None:
    """gRPC would write to standard error, and the service seem to be away."""
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(ValueError, match="no certificate"):
        Connection("127.0.0.1:1", tls=tmp_path / "ca.pem").open()


def test_a_certificate_needs_tls() -> None:
    """It would never be shown otherwise."""
    with pytest.raises(ValueError, match="needs TLS"):
        Connection("127.0.0.1:1", certificate=("a.pem", "a.key"))


def test_the_token_is_not_shown() -> None:
    """Neither in a traceback nor in a log."""
    assert "secret" not in repr(Connection("127.0.0.1:1", token="secret"))  # noqa: S106
