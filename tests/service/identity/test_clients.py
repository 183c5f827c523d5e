"""The clients file: what it may hold, whom it lets in, and what happens when it changes."""

import asyncio
import logging
import os
from pathlib import Path

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from service.identity.caller import Precision
from service.identity.clients import load_clients
from service.identity.watched import UnusableFileError
from service.starting import StartError
from tests.service.fakes import RELOAD_INTERVAL, Front, front
from tests.service.identity.people import bearer, entry, write_clients


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "clients: Field required"),
        ("clients = []", "clients: "),
        ("[[clients]\n", "not TOML"),
        (entry("a", "explain") + "token = 'x'\n", "clients.0.token: "),
        (entry("a b", "explain"), "clients.0.name: "),
        (entry("a", "root"), "clients.0.roles.0: "),
        (entry("a"), "clients.0.roles: "),
        ("[[clients]]\nname = 'a'\nroles = ['explain']\n", "needs token_sha256"),
        ("[[clients]]\nname = 'a'\nroles = ['explain']\ntoken_sha256 = 'hunter2'\n", "clients.0.token_sha256: "),
        (entry("a", "explain", precision="exact"), "clients.0.precision: "),
        (entry("a", "explain", explanations_per_minute=0), "clients.0.explanations_per_minute: "),
        (entry("a", "explain") + entry("a", "explain", shows="other"), "the same name"),
        (entry("a", "explain") + entry("b", "explain", shows="token-a"), "the same token_sha256"),
        (entry("a", "explain", certificate="x") + entry("b", "explain", certificate="x"), "the same certificate"),
    ],
)
def test_a_file_with_a_fault_is_refused_without_quoting_it(text: str, message: str, tmp_path: Path) -> None:
    """The operator learns where the fault is; neither a value nor a path is in the text."""
    path = tmp_path / "clients.toml"
    path.write_text(text)
    with pytest.raises(UnusableFileError, match=message) as caught:
        load_clients(path)
    assert "hunter2" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_no_service_starts_without_its_clients_file(tmp_path: Path) -> None:
    """A file that is not there stops the start, and does not switch identity off."""

    async def start() -> None:
        async with front(clients_file=tmp_path / "none.toml"):
            raise AssertionError("it runs")

    with pytest.raises(StartError, match="cannot be read"):
        asyncio.run(start())


@pytest.mark.parametrize(
    ("roles", "given", "precision"),
    [
        (["predict"], {}, Precision.STANDARD),
        (["explain"], {}, Precision.STANDARD),
        (["explain", "audit"], {}, Precision.FULL),
        (["admin"], {}, Precision.FULL),
        (["admin"], {"precision": "coarse"}, Precision.COARSE),
        (["explain"], {"precision": "full"}, Precision.FULL),
    ],
)
def test_precision_follows_the_roles_unless_it_is_named(
    roles: list[str], given: dict[str, str], precision: Precision, tmp_path: Path
) -> None:
    """The most precise role counts; an entry's own precision comes first."""
    clients = load_clients(write_clients(tmp_path / "clients.toml", entry("a", *roles, **given)))
    caller = clients.find("token-a", ())
    assert caller is not None
    assert caller.precision is precision


@pytest.mark.parametrize(
    ("token", "certificate", "name"),
    [
        ("token-a", [], "a"),
        ("token-a", ["cert-b"], "a"),
        (None, ["cert-b"], "b"),
        (None, ["unknown", "cert-b"], "b"),
        ("secret-c", ["cert-c"], "c"),
        ("secret-c", [], None),
        ("secret-c", ["cert-b"], None),
        (None, ["cert-c"], None),
        (None, ["cert-b", "cert-d"], None),
        ("wrong", ["cert-b"], None),
        ("", ["cert-b"], None),
        ("", [], None),
        (None, [], None),
    ],
)
def test_who_is_found_by_token_certificate_or_both(
    token: str | None, certificate: list[str], name: str | None, tmp_path: Path
) -> None:
    """a has a token, b and d a certificate, c both; a wrong token is never made good by a right certificate."""
    path = write_clients(
        tmp_path / "clients.toml",
        entry("a", "explain"),
        entry("b", "explain", certificate="cert-b"),
        entry("c", "explain", shows="secret-c", certificate="cert-c"),
        entry("d", "explain", certificate="cert-d"),
    )
    caller = load_clients(path).find(token, certificate)
    assert (caller.name if caller else None) == name


async def listed(service: Front, name: str) -> grpc.StatusCode:
    try:
        await service.stub.ListModels(api.ListModelsRequest(), metadata=bearer(name))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_a_changed_file_counts_without_a_restart(tmp_path: Path) -> None:
    """A new client is let in, and one whose entry is gone is not, on the connection that it has."""
    path = write_clients(tmp_path / "clients.toml", entry("old", "explain"))
    async with front(clients_file=path) as service:
        assert [await listed(service, name) for name in ("old", "new")] == [
            grpc.StatusCode.OK,
            grpc.StatusCode.UNAUTHENTICATED,
        ]
        write_clients(path, entry("new", "explain"))
        async with asyncio.timeout(5):
            while await listed(service, "new") is not grpc.StatusCode.OK:
                await asyncio.sleep(RELOAD_INTERVAL)
        assert await listed(service, "old") is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("broken", ["[[clients]", "", None], ids=["no TOML", "empty", "gone"])
async def test_a_broken_new_file_leaves_the_old_one_in_force(
    broken: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once in the log, without a path; when the file is good again, it counts."""
    path = write_clients(tmp_path / "clients.toml", entry("old", "explain"))
    async with front(clients_file=path) as service:
        if broken is None:
            path.unlink()
        else:
            write_clients(path, broken)
        async with asyncio.timeout(5):
            while not caplog.records:
                await asyncio.sleep(RELOAD_INTERVAL)
        await asyncio.sleep(5 * RELOAD_INTERVAL)
        assert await listed(service, "old") is grpc.StatusCode.OK
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(lines) == 1
        assert "the old one stays" in lines[0]
        assert os.sep not in lines[0]
        write_clients(path, entry("new", "explain"))
        async with asyncio.timeout(5):
            while await listed(service, "new") is not grpc.StatusCode.OK:
                await asyncio.sleep(RELOAD_INTERVAL)
