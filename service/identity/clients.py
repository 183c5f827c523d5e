"""The clients file: who may call, by token or certificate."""

import hashlib
import hmac
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.identity.caller import Caller, Precision, Role
from service.identity.watched import UnusableFileError

# The most precise of a client's roles counts, unless its entry names a precision.
ROLE_PRECISION = {
    Role.PREDICT: Precision.STANDARD,
    Role.EXPLAIN: Precision.STANDARD,
    Role.AUDIT: Precision.FULL,
    Role.ADMIN: Precision.FULL,
}

Quota = Annotated[float | None, Field(gt=0, le=1_000_000)]


class ClientEntry(BaseModel):
    """One `[[clients]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """For the log and the metrics."""

    token_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the bearer token in hexadecimal digits, never the token itself."""

    certificate: str | None = Field(default=None, min_length=1, max_length=256)
    """A subject alternative name of the client's certificate; its common name where it has no alternative names.
    Together with a token, both are needed."""

    roles: tuple[Role, ...] = Field(min_length=1)
    """What the client may do."""

    precision: Precision | None = None
    """How precise its answers are. Default: by its roles."""

    predictions_per_minute: Quota = None
    """Most predictions in a minute. Default: no limit."""

    explanations_per_minute: Quota = None
    """Most explained classes in a minute. Default: no limit."""

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if self.token_sha256 is None and self.certificate is None:
            raise ValueError("needs token_sha256, certificate or both")
        return self

    @property
    def caller(self) -> Caller:
        """The client for the rest of the service."""
        ranks = list(Precision)
        by_role = max((ROLE_PRECISION[role] for role in self.roles), key=ranks.index)
        return Caller(
            name=self.name,
            roles=frozenset(self.roles),
            precision=self.precision or by_role,
            predictions_per_minute=self.predictions_per_minute,
            explanations_per_minute=self.explanations_per_minute,
        )


class Clients(BaseModel):
    """The whole file. An empty one is refused: it is more likely half written than meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clients: tuple[ClientEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_unique(self) -> Self:
        for field in ("name", "token_sha256"):
            _refuse_repetition(field, [getattr(entry, field) for entry in self.clients])
        _refuse_repetition(
            "certificate without a token", [entry.certificate for entry in self.clients if entry.token_sha256 is None]
        )
        return self

    def find(self, token: str | None, certificate: Collection[str]) -> Caller | None:
        """The client with these credentials, or None.

        Args:
            token: the bearer token, or None where none was sent. One that was sent must be right.
            certificate: names in the verified certificate; empty where there is none.
        """
        if token is None:
            found = [entry for entry in self.clients if entry.token_sha256 is None and entry.certificate in certificate]
        else:
            digest = token_digest(token)
            # Every entry is compared, each in constant time: the time tells nothing of how near a guess was.
            same = [hmac.compare_digest(digest, entry.token_sha256 or "") for entry in self.clients]
            found = [
                entry
                for entry, right in zip(self.clients, same, strict=True)
                if right and (entry.certificate is None or entry.certificate in certificate)
            ]
        return found[0].caller if len(found) == 1 else None  # a certificate with the names of two clients is neither

    def named(self, name: str) -> Caller | None:
        """The client of that name, or None."""
        return next((entry.caller for entry in self.clients if entry.name == name), None)


def token_digest(token: str) -> str:
    """What the clients file holds in place of a token. Tokens are random and long, so they need no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def load_clients(path: Path) -> Clients:
    """Read the clients file.

    Raises:
        UnusableFileError: there is no such file, or a key is unknown or has a wrong value.
    """
    try:
        return Clients.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UnusableFileError(f"the clients file cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UnusableFileError(f"clients file: {place}: {first['msg'].removeprefix('Value error, ')}") from None
    except ValueError:  # no TOML, or no UTF-8; the parser's text may quote the file
        raise UnusableFileError("the clients file is not TOML") from None


def _refuse_repetition(field: str, values: list[str | None]) -> None:
    given = [value for value in values if value is not None]
    if len(set(given)) < len(given):
        raise ValueError(f"two clients have the same {field}")
