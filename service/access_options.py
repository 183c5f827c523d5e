"""The command line's options for TLS and identity, the same for every command that asks the service."""

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from service.access import Access, CallError

PARAMETER = "access"


def read_access(
    tls: Annotated[bool, typer.Option("--tls", envvar="WHYLIGHT_TLS", help="Connect with TLS.")] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(envvar="WHYLIGHT_TLS_CA", help="Connect with TLS, trusting the authorities in this PEM file."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="WHYLIGHT_TOKEN_FILE", help="File with the bearer token. Default: WHYLIGHT_TOKEN."),
    ] = None,
    client_cert: Annotated[
        Path | None, typer.Option(envvar="WHYLIGHT_CLIENT_CERT", help="PEM file of the client's certificate (mTLS).")
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option(envvar="WHYLIGHT_CLIENT_KEY", help="PEM file of the certificate's private key.")
    ] = None,
) -> Access:
    """How to connect, from the options.

    Raises:
        CallError: the token's file cannot be read.
    """
    token = os.environ.get("WHYLIGHT_TOKEN")  # no option: everybody on a machine sees the arguments of a program
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise CallError(f"cannot read the token: {error.strerror}") from None
        except UnicodeDecodeError:
            raise CallError("the token's file holds no token") from None
    return Access(tls=tls, tls_ca=tls_ca, client_certificate=client_cert, client_key=client_key, token=token)


def with_access(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options in place of its parameter `access`."""
    options = inspect.signature(read_access).parameters
    own = inspect.signature(command).parameters

    @functools.wraps(command)
    def extended(**values: Any) -> None:
        chosen = {name: values.pop(name) for name in options}
        try:
            access = read_access(**chosen)
        except CallError as error:
            typer.secho(str(error), err=True, fg="red")
            raise typer.Exit(1) from None
        command(**values, access=access)

    kept = [parameter for name, parameter in own.items() if name != PARAMETER]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in options.values()]
    extended.__signature__ = inspect.Signature([*kept, *keywords])  # type: ignore[attr-defined]  # typer reads it
    return extended
