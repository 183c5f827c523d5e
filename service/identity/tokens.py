"""New bearer tokens."""

import json
import os
import secrets
from pathlib import Path

from service.identity.caller import Precision
from service.identity.clients import ClientEntry, token_digest

TOKEN_BYTES = 32


def new_token() -> str:
    """A random token of 256 bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def write_token(path: Path, token: str) -> None:
    """Write a token to a new file that only its owner can read.

    Raises:
        OSError: there is such a file already, or it cannot be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{token}\n")


def clients_entry(
    name: str,
    token: str,
    roles: list[str],
    precision: Precision | None = None,
    predictions_per_minute: float | None = None,
    explanations_per_minute: float | None = None,
) -> str:
    """The `[[clients]]` table for a new token, in TOML.

    Raises:
        pydantic.ValidationError: a value is none that the clients file may have.
    """
    entry = ClientEntry.model_validate(
        {
            "name": name,
            "token_sha256": token_digest(token),
            "roles": roles,
            "precision": precision,
            "predictions_per_minute": predictions_per_minute,
            "explanations_per_minute": explanations_per_minute,
        }
    )
    fields = entry.model_dump(mode="json", exclude_none=True)
    # JSON's strings, numbers and lists of strings are TOML's, too.
    return "\n".join(["", "[[clients]]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())])
