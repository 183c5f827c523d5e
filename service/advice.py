"""What the error of a call means, in lines that a person at the command line can act on."""

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from service.status_details import KEY

# What the service tells programs, and the command that does the same.
_COMMANDS = {
    "ListModels": "`whylight models` lists them",
    "ListMethods": "`whylight methods` lists them",
    "ListMetrics": "`whylight metrics` lists them",
    "GetModel": "`whylight models MODEL` shows them",
    "no such operation": "`whylight job list` lists the jobs; one that has expired is forgotten",
}
_MORE_TIME = (
    "give it more with --timeout, take the best map that there is with --allow-partial, or let it run without you: "
    "whylight job create"
)
_TIMED_OUT = "Deadline Exceeded"  # says gRPC in the client
_BY_STATUS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: _MORE_TIME,
    grpc.StatusCode.UNAUTHENTICATED: "--token-file, or WHYLIGHT_TOKEN, names who you are: docs/security.md",
}


def describe_error(error: Any, address: str) -> str:
    """Status, message, the fields that were wrong, when to try again, and what else to do, on as many lines.

    Args:
        error: as gRPC raised it.
        address: of the service that was asked.
    """
    details = dict(error.trailing_metadata() or ()).get(KEY)
    if details is None:
        return _from_grpc(error, address)
    status = status_pb2.Status.FromString(details)
    violations, hints = list(_violations(status)), list(_hints(error.code(), error.details()))
    lines = [f"{error.code().name}: {error.details()}"]
    lines.extend(f"  {field}: {text}" for field, text in violations)
    lines.extend(f"  try again in {seconds:.3g} s" for seconds in _retry_delays(status))
    hints.extend(hint for _, text in violations for hint in _hints(None, text))
    return "\n".join([*lines, *(f"  {hint}" for hint in dict.fromkeys(hints))])


def _from_grpc(error: Any, address: str) -> str:
    """What gRPC says by itself, before or instead of the service."""
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        return (
            f"UNAVAILABLE: no service answers at {address}; `whylight serve` starts one, --address names another. "
            "One with TLS answers only with the right --tls-ca, and, where it asks for it, --client-cert"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return f"{code.name}: the image is larger than the service takes in a request"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"UNIMPLEMENTED: what answers at {address} is no Whylight, or one of another version"
    said = "no answer in time" if text == _TIMED_OUT else text
    return "\n".join([f"{code.name}: {said}", *(f"  {hint}" for hint in _hints(code, text))])


def _hints(code: grpc.StatusCode | None, text: str) -> Iterator[str]:
    yield from (hint for word, hint in _COMMANDS.items() if word in text)
    if code in _BY_STATUS:
        yield _BY_STATUS[code]


def _retry_delays(status: status_pb2.Status) -> Iterator[float]:
    retry = error_details_pb2.RetryInfo()
    return (retry.retry_delay.ToNanoseconds() / 1e9 for detail in status.details if detail.Unpack(retry))


def _violations(status: status_pb2.Status) -> Iterator[tuple[str, str]]:
    detail: any_pb2.Any
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            yield from ((violation.field, violation.description) for violation in bad.field_violations)
