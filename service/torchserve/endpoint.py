"""Where a TorchServe listens, and with which keys."""

import json
from dataclasses import dataclass
from pathlib import Path

UNIX_PREFIX = "unix:"


@dataclass(frozen=True)
class Keys:
    """Bearer tokens of the two interfaces; None where TorchServe asks for none."""

    inference: str | None = None
    management: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """One running TorchServe, ours or somebody else's.

    Attributes:
        inference: address of the inference interface, "unix:/path" or "http://host:port".
        management: address of the management interface, in the same form.
        key_file: TorchServe's key_file.json; it wins over `keys`.
        keys: fixed tokens, for a TorchServe whose file is out of reach.
    """

    inference: str
    management: str
    key_file: Path | None = None
    keys: Keys = Keys()

    def read_keys(self) -> Keys:
        """The tokens as they are now: TorchServe may write new ones into its file at any time.

        Raises:
            OSError: the file cannot be read, for example because TorchServe has not written it yet.
            ValueError: the file is not a key file.
        """
        if self.key_file is None:
            return self.keys
        content = json.loads(self.key_file.read_text(encoding="utf-8"))
        try:
            return Keys(content["inference"]["key"], content["management"]["key"])
        except (KeyError, TypeError):
            raise ValueError("not a TorchServe key file") from None


def socket_path(address: str) -> str | None:
    """The path of a unix socket address; None for any other."""
    return address.removeprefix(UNIX_PREFIX) if address.startswith(UNIX_PREFIX) else None
