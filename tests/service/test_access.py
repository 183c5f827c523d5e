"""The client's side of TLS and tokens, and the command that makes tokens."""

import asyncio
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.access import Access, CallError
from service.cli import app
from service.client import Client
from service.identity.clients import load_clients
from tests.service.fakes import MODEL, front
from tests.service.identity.certificates import Authority
from tests.service.identity.people import entry, write_clients


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WHYLIGHT_")]:
        monkeypatch.delenv(name)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


async def test_every_way_in_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS, a token from a file or from the environment, and a client certificate; each is needed."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    certificate, key = authority.for_server().write(tmp_path, "server")
    own, own_key = authority.issue("viewer").write(tmp_path, "viewer")
    (tmp_path / "token").write_text("token-a\n")
    clients = write_clients(tmp_path / "clients.toml", entry("a", "explain", shows="token-a", certificate="viewer"))
    tls = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": tmp_path / "ca.pem"}
    async with front(clients_file=clients, **tls) as service:

        async def models(*options: object) -> Any:
            return await asyncio.to_thread(run, "models", "--address", service.address, *options)

        connect = ("--tls-ca", tmp_path / "ca.pem", "--client-cert", own, "--client-key", own_key)
        good = await models(*connect, "--token-file", tmp_path / "token")
        assert good.exit_code == 0, good.output
        assert MODEL in good.output
        without = await models(*connect)
        assert without.exit_code == 1
        assert "UNAUTHENTICATED" in without.output
        assert "UNAVAILABLE" in (await models(*connect[:2], "--token-file", tmp_path / "token")).output
        monkeypatch.setenv("WHYLIGHT_TOKEN", "token-a")
        monkeypatch.setenv("WHYLIGHT_TLS_CA", str(tmp_path / "ca.pem"))
        assert MODEL in (await models(*connect[2:])).output


async def test_a_used_up_quota_says_when_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person at the command line sees the delay that RetryInfo carries."""
    (tmp_path / "image").write_bytes(b"any bytes")
    clients = write_clients(tmp_path / "clients.toml", entry("a", "explain", explanations_per_minute=6))
    monkeypatch.setenv("WHYLIGHT_TOKEN", "token-a")
    async with front(clients_file=clients) as service:
        arguments = ("explain", tmp_path / "image", "--model", MODEL, "--address", service.address, "--top-k", "4")
        assert (await asyncio.to_thread(run, *arguments)).exit_code == 0
        done = await asyncio.to_thread(run, *arguments)
        assert done.exit_code == 1
        assert "try again in 20 s" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tls-ca", "none.pem"], "cannot read the authorities"),
        (["--token-file", "none"], "cannot read the token"),
        (["--tls", "--client-cert", "a.pem"], "go together"),
        (["--client-cert", "a.pem", "--client-key", "a.key"], "needs TLS"),
    ],
)
def test_options_that_cannot_work_are_refused(options: list[str], message: str) -> None:
    """With a sentence that says what is missing, and no traceback."""
    done = run("models", *options)
    assert done.exit_code == 1
    assert message in done.output


@pytest.mark.parametrize("address", ["192.0.2.1:1", "whylight.example:1", "[2001:db8::1]:1"])
def test_a_token_does_not_leave_the_machine_in_the_clear(address: str) -> None:
    """Without TLS a token is for loopback only."""
    with pytest.raises(CallError, match="without TLS"):
        Client(address, access=Access(token="t"))  # noqa: S106 - no secret


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_a_token_may_stay_on_the_machine_in_the_clear(address: str) -> None:
    """On loopback a token needs no TLS."""
    with Client(address, access=Access(token="t")) as client:  # noqa: S106 - no secret
        assert client is not None


def test_the_token_is_not_in_the_text_of_its_object() -> None:
    """A log of it would give it away."""
    assert "hush" not in repr(Access(token="hush"))  # noqa: S106 - no secret


def test_a_new_token_lets_its_client_in(tmp_path: Path) -> None:
    """What the command prints for the clients file fits the token that it shows, and holds it only as a hash."""
    done = run("token", "viewer", "--role", "explain", "--role", "audit", "--explanations-per-minute", "30")
    assert done.exit_code == 0
    token, entry_text = done.stdout.split("\n", 1)
    assert token not in entry_text
    (tmp_path / "clients.toml").write_text(entry_text)
    caller = load_clients(tmp_path / "clients.toml").find(token, ())
    assert caller is not None
    assert caller.name == "viewer"
    assert {str(role) for role in caller.roles} == {"explain", "audit"}
    assert caller.explanations_per_minute == 30
    assert caller.predictions_per_minute is None


def test_tokens_can_be_added_one_after_the_other(tmp_path: Path) -> None:
    """With --output standard output is the entry alone; the file is the owner's alone and is never replaced."""
    text = ""
    for name in ("a", "b"):
        done = run("token", name, "--role", "explain", "-o", tmp_path / name)
        assert done.exit_code == 0
        text += done.stdout
    assert [each["name"] for each in tomllib.loads(text)["clients"]] == ["a", "b"]
    first = (tmp_path / "a").read_text()
    assert first != (tmp_path / "b").read_text()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    again = run("token", "a", "--role", "explain", "-o", tmp_path / "a")
    assert again.exit_code == 1
    assert "[[clients]]" not in again.stdout
    assert (tmp_path / "a").read_text() == first


@pytest.mark.parametrize(
    "arguments",
    [
        ["a b", "--role", "explain"],
        ["a"],
        ["a", "--role", "root"],
        ["a", "--role", "explain", "--precision", "no"],
        ["a", "--role", "explain", "--explanations-per-minute", "0"],
    ],
)
def test_an_entry_that_would_be_refused_is_not_made(arguments: list[str]) -> None:
    """The command checks as the service does."""
    done = run("token", *arguments)
    assert done.exit_code == 2
    assert "[[clients]]" not in done.stdout
