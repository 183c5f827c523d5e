"""What is large must be an image: everything else is refused before a parser makes objects of it."""

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.worker.v1 import worker_pb2
from service.errors import InvalidRequestError
from service.identity import interceptor
from service.identity.envelope import MOST, check_envelope
from tests.fuzz.message_bombs import field, many_metrics, many_targets, many_unknown_fields, nested_struct
from tests.service.fakes import MODEL, front

EXPLAIN = api.ExplainRequest.DESCRIPTOR


@pytest.mark.parametrize(
    "raw",
    [
        many_targets(MOST),
        many_metrics(MOST),
        many_unknown_fields(MOST),
        field(3, b"") * MOST,
        field(1, b"x" * (MOST + 1)),
        field(500, b"x" * (MOST + 1)),
        b"\x38\x01" * MOST,
        nested_struct(10_000),
    ],
    ids=["targets", "metrics", "unknown", "images", "text", "unknown text", "numbers", "nested"],
)
def test_a_large_envelope_is_refused(raw: bytes) -> None:
    """In nested messages, in repeated and in unknown fields."""
    with pytest.raises(InvalidRequestError, match="besides its image"):
        check_envelope(raw, EXPLAIN)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (api.ExplainRequest(model=MODEL, image=bytes(10**7), top_k=5), EXPLAIN),
        (api.PredictRequest(image=bytes(10**7)), api.PredictRequest.DESCRIPTOR),
        (
            worker_pb2.WorkRequest(image=worker_pb2.ImageWork(image=bytes(10**7), top_k=1)),
            worker_pb2.WorkRequest.DESCRIPTOR,
        ),
    ],
    ids=["Explain", "Predict", "nested"],
)
def test_a_large_image_is_none(message: object, kind: object) -> None:
    """Wherever it is in the message."""
    check_envelope(message.SerializeToString(), kind)  # type: ignore[attr-defined, arg-type]


@pytest.mark.parametrize("raw", [b"\xff" * 10**5, b"\x1a\xff\xff\xff\x7f" + bytes(10**5), b"\x1b" * 10**5])
def test_what_is_no_message_ends(raw: bytes) -> None:
    """Refused here or by the parser; the walk over it ends."""
    try:
        check_envelope(raw, EXPLAIN)
    except InvalidRequestError:
        return
    with pytest.raises(interceptor.DecodeError):
        api.ExplainRequest.FromString(raw)


async def test_the_service_looks_before_it_parses() -> None:
    """A call with very many targets is INVALID_ARGUMENT, for the size of its envelope."""
    async with front() as service:
        with pytest.raises(grpc.aio.AioRpcError, match="besides its image") as caught:
            await service.channel.unary_unary("/explain.v1.ExplanationService/Explain")(many_targets(10**5))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
