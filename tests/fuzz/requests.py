"""One fuzzed request after the other: a valid one of some procedure, changed at random."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2
from protos.worker.v1 import worker_pb2
from tests.fuzz.mutations import Mutator
from tests.handlers.pictures import encode, photograph
from tests.tiny import LABELS

MODEL = "tiny"
IMAGES = tuple(encode(photograph(20, 24), name) for name in ("PNG", "JPEG", "WEBP", "BMP"))
METHODS = tuple(field.name for field in method_pb2.Method.DESCRIPTOR.fields)
# Of the unary procedures. A stream or another service adds itself here when it is one that takes untrusted messages.
PROCEDURES: Sequence[MethodDescriptor] = [
    method for method in api.DESCRIPTOR.services_by_name["ExplanationService"].methods if not method.client_streaming
]
# Every name that means something: methods, labels, layers, metrics with their parameters.
WORDS = (MODEL, *LABELS, *METHODS, "first", "last", "head", "1.2", "average_drop", "insertion", "deletion",
         "max_sensitivity", "rank_correlation", "steps", "samples", "noise", "seed")  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A message to send.

    Attributes:
        procedure: its name, for example "Explain"; "WorkRequest" for a worker.
        streams: the answer is a stream.
        body: as it goes over the wire.
        kind: how it was made: "fields", "bytes" or "noise".
    """

    procedure: str
    streams: bool
    body: bytes
    kind: str


def public(source: random.Random) -> Sent:
    """A request to the service: most with a few changed fields, some with changed bytes, a few that are no message."""
    procedure = _procedure(source)
    base = _valid(procedure, source)
    return _changed(procedure.name, procedure.server_streaming, base, source)


def private(source: random.Random) -> Sent:
    """The same to a worker, as nobody but the service sends it."""
    work = worker_pb2.ImageWork(image=source.choice(IMAGES), top_k=2)
    if source.random() < 0.8:
        _choose(work.method, source)
    if source.random() < 0.3:
        _ask(work.quality, source)
    return _changed("WorkRequest", False, worker_pb2.WorkRequest(request_id="r", image=work), source)


def image(source: random.Random) -> bytes:
    """A damaged image."""
    return Mutator(source, (), ()).scramble(source.choice(IMAGES), most=12)


def _changed(name: str, streams: bool, base: Message, source: random.Random) -> Sent:
    mutator = Mutator(source, WORDS, IMAGES)
    dice = source.random()
    if dice < 0.03:
        return Sent(name, streams, source.randbytes(source.randrange(200)), "noise")
    if dice < 0.25:
        return Sent(name, streams, mutator.scramble(base.SerializeToString()), "bytes")
    for _ in range(source.randint(1, 3)):
        mutator.mutate(base)
    return Sent(name, streams, base.SerializeToString(), "fields")


def _procedure(source: random.Random) -> MethodDescriptor:
    """Three of four times one that takes an image: there is more to get wrong."""
    with_image = [each for each in PROCEDURES if "image" in each.input_type.fields_by_name]
    return source.choice(with_image if source.random() < 0.75 else PROCEDURES)


def _valid(procedure: MethodDescriptor, source: random.Random) -> Message:
    request: Message = message_factory.GetMessageClass(procedure.input_type)()
    fields = procedure.input_type.fields_by_name
    if "model" in fields:
        request.model = MODEL  # type: ignore[attr-defined]
    if "image" in fields:
        request.image = source.choice(IMAGES)  # type: ignore[attr-defined]
    if "method" in fields and fields["method"].message_type is method_pb2.Method.DESCRIPTOR:
        _choose(request.method, source)  # type: ignore[attr-defined]
    if "quality" in fields and source.random() < 0.2:
        _ask(request.quality, source)  # type: ignore[attr-defined]
    return request


def _choose(method: method_pb2.Method, source: random.Random) -> None:
    getattr(method, source.choice(METHODS)).SetInParent()


def _ask(quality: quality_pb2.QualityOptions, source: random.Random) -> None:
    quality.metrics.add(name=source.choice(("average_drop", "insertion", "max_sensitivity", "rank_correlation")))
    if source.random() < 0.5:
        _choose(quality.compare_with, source)
