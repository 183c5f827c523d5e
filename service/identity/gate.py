"""Lets a call in, or says why not."""

from collections.abc import Callable, Collection

from service.errors import PermissionDeniedError, UnauthenticatedError
from service.identity.caller import LOCAL, Caller
from service.identity.clients import Clients
from service.identity.permissions import may_call

_SCHEME = "bearer "


class Gate:
    """Who calls, and whether they may.

    Args:
        clients: gives the clients of the moment; None where identity is off, and everybody is let in.
    """

    def __init__(self, clients: Callable[[], Clients] | None) -> None:
        self._clients = clients

    def identify(self, authorization: Collection[str], certificate: Collection[str]) -> Caller:
        """Find the caller.

        Args:
            authorization: the values of the call's `authorization` metadata.
            certificate: names in the caller's verified certificate.

        Raises:
            UnauthenticatedError: no credentials, or wrong ones.
        """
        if self._clients is None:
            return LOCAL
        if not authorization and not certificate:
            raise UnauthenticatedError(
                "credentials are needed: a bearer token or a client certificate", reason="CREDENTIALS_MISSING"
            )
        caller = self._clients().find(_token(authorization), certificate)
        if caller is None:
            raise UnauthenticatedError("these credentials belong to no client")
        return caller

    def recall(self, name: str, path: str) -> Caller:
        """The client of that name as it is now, for work that it asked for earlier by the procedure at `path`.

        Raises:
            PermissionDeniedError: it is no client any more, or lost the role for it.
        """
        everybody = LOCAL if name == LOCAL.name else None
        caller = everybody if self._clients is None else self._clients().named(name)
        if caller is None:
            raise PermissionDeniedError("the client that asked for this is none any more", reason="CLIENT_REMOVED")
        self.check(caller, path)
        return caller

    def check(self, caller: Caller, path: str) -> None:
        """Let the caller go on to the procedure at `path`.

        Raises:
            PermissionDeniedError: its roles do not allow it.
        """
        if self._clients is not None and not may_call(path, caller.roles):
            raise PermissionDeniedError("the client's roles do not allow this procedure")


def _token(authorization: Collection[str]) -> str | None:
    """The bearer token; None where there is no `authorization`; "", which nobody has, where it is anything else."""
    if not authorization:
        return None
    value = next(iter(authorization))
    if len(authorization) > 1 or not value.lower().startswith(_SCHEME):
        return ""
    return value[len(_SCHEME) :].strip()
