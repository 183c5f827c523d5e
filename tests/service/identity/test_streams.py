"""Procedures that answer with a stream: guarded like the others, each message by itself."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from service.identity.clients import load_clients
from service.identity.gate import Gate
from service.identity.interceptor import IdentityInterceptor
from tests.service.identity.people import bearer, entry, write_clients

PATH = "/explain.v1.ExplanationService/Explain"  # stands in for a procedure that streams


class AbortedError(Exception):
    """What a context raises to end a call."""


class Context:
    """As much of gRPC's context as the door needs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.code: grpc.StatusCode | None = None

    def invocation_metadata(self) -> Any:
        return bearer(self.name)

    def peer_identities(self) -> None:
        return None

    async def abort(self, code: grpc.StatusCode, *_: object) -> None:
        self.code = code
        raise AbortedError


async def answers(request: api.ExplainRequest, context: Context) -> AsyncIterator[api.ExplainResponse]:
    """Two answers, each with a logit; the model's name says whether to fail in between."""
    for _ in range(2):
        yield api.ExplainResponse(predictions=[types_pb2.ClassScore(logit=2.0, probability=0.987654321)])
        if request.model == "fail":
            raise RuntimeError("jane doe")


async def writes(request: api.ExplainRequest, context: Context) -> None:
    """The other shape of a stream: it writes what nobody else sees."""


async def guarded(behaviour: Any, folder: Path) -> Any:
    path = write_clients(folder / "clients.toml", entry("a", "explain", precision="coarse"), entry("b", "audit"))
    clients = load_clients(path)

    async def continuation(details: object) -> Any:
        return grpc.unary_stream_rpc_method_handler(behaviour, api.ExplainRequest.FromString)

    details: Any = SimpleNamespace(method=PATH)
    handler: Any = await IdentityInterceptor(Gate(lambda: clients)).intercept_service(continuation, details)
    return handler.unary_stream


async def test_every_message_of_a_stream_is_rounded(tmp_path: Path) -> None:
    """Not only the first."""
    behaviour = await guarded(answers, tmp_path)
    got = [response.predictions[0] async for response in behaviour(b"", Context("a"))]
    assert [(score.logit, round(score.probability, 6)) for score in got] == [(0.0, 0.99)] * 2


@pytest.mark.parametrize(
    ("name", "raw", "code"),
    [
        ("nobody", b"", grpc.StatusCode.UNAUTHENTICATED),
        ("b", b"", grpc.StatusCode.PERMISSION_DENIED),
        ("a", b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
        ("a", api.ExplainRequest(model="fail").SerializeToString(), grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_stream_ends_with_the_status_of_its_refusal(
    name: str, raw: bytes, code: grpc.StatusCode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where no observer makes statuses; a fault's text stays out of the log."""
    behaviour, context = await guarded(answers, tmp_path), Context(name)
    with pytest.raises(AbortedError):
        async for _ in behaviour(raw, context):
            pass
    assert context.code is code
    assert "jane" not in caplog.text
    assert ("RuntimeError" in caplog.text) == (code is grpc.StatusCode.INTERNAL)


async def test_a_stream_that_cannot_be_rounded_is_refused(tmp_path: Path) -> None:
    """A procedure of ours that writes its messages itself would pass by the precision: the developer is told."""
    with pytest.raises(TypeError, match="async generator"):
        await guarded(writes, tmp_path)
