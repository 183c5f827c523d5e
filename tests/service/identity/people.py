"""Clients for tests: a clients file, and the metadata that each sends."""

import json
from collections.abc import Sequence
from pathlib import Path

from service.identity.caller import Role
from service.identity.clients import token_digest


def entry(name: str, *roles: str, shows: str | None = None, **fields: object) -> str:
    """A `[[clients]]` table; the client's token is "token-NAME" unless it says otherwise or has a certificate."""
    if shows is None and "certificate" not in fields:
        shows = f"token-{name}"
    given = {"name": name, "roles": roles, **fields}
    if shows is not None:
        given["token_sha256"] = token_digest(shows)
    return "[[clients]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())


def write_clients(path: Path, *entries: str) -> Path:
    """The clients file, written whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text("\n".join(entries))
    draft.replace(path)
    return path


def one_of_each_role(folder: Path) -> Path:
    """A clients file with a client of each role, named like it."""
    return write_clients(folder / "clients.toml", *(entry(role.value, role.value) for role in Role))


def bearer(name: str) -> Sequence[tuple[str, str]]:
    """The metadata that a client sends."""
    return (("authorization", f"Bearer token-{name}"),)
