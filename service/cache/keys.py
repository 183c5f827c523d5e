"""What makes two requests the same, as digests of 32 bytes."""

import asyncio
import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Self

from google.protobuf.message import Message

from protos.explain.v1 import method_pb2
from service.commands import ExplainCommand, PredictCommand
from service.watching import Particular, Watch

_LARGE = 1024 * 1024  # bytes; the digest of a larger image is made beside the event loop
_APART = ("image", "method", "no_cache", "allow_partial")


@dataclass(frozen=True)
class Request:
    """A command as its keys are made from it. Every key holds the client and the deployed model.

    Attributes:
        scope: of the client, and of all that the worker said of its model: name, version, digests of weights and
            preprocessing, labels, layers, device, versions of the code.
        image: of the encoded image, with whether the answer draws it.
        choices: of everything else but the method.
        method: as the client sent it, serialised; empty for a prediction.
        partial: whether a part of the work is an answer. Where it was done as a whole, that makes no difference.
    """

    scope: bytes
    image: bytes
    choices: bytes
    method: bytes
    partial: bool

    @classmethod
    async def of(cls, command: PredictCommand, client: str, model: bytes) -> Self:
        """Read a command of a client for a model with this fingerprint (`DeployedModel.fingerprint`)."""
        drawn = isinstance(command, ExplainCommand) and command.output.overlay_png
        return cls(
            scope=_digest(client.encode(), model),
            image=_digest(await _image_digest(command.image), canonical(drawn)),
            choices=_choices(command),
            method=canonical(command.method) if isinstance(command, ExplainCommand) else b"",
            partial=isinstance(command, ExplainCommand) and command.allow_partial,
        )

    @property
    def image_key(self) -> bytes:
        """Of what is known of the image."""
        return _digest(b"image", self.scope, self.image)

    @property
    def method_key(self) -> bytes:
        """Of the method with every parameter resolved."""
        return _digest(b"method", self.scope, self.method)

    def resolved(self, method: method_pb2.Method) -> "Request":
        """The same request, with every parameter of its method written out."""
        return dataclasses.replace(self, method=canonical(method))

    def answer_key(self, content: bytes) -> bytes:
        """Of the answer: of a resolved request with the digest of what it depends on in the image."""
        return _digest(b"answer", self.scope, content, self.method, self.choices)

    def flight_key(self, watch: Watch | None) -> bytes:
        """Of the computation: what its steps tell belongs to it."""
        wanted = (watch.maps, watch.interval) if isinstance(watch, Particular) else watch is not None
        told = canonical((wanted, self.partial))
        return _digest(b"flight", self.scope, self.image, self.method, self.choices, told)


def canonical(value: object) -> bytes:
    """The same bytes for equal values: maps, such as a metric's parameters, are sorted."""
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True)
    return repr(value).encode()


def _choices(command: PredictCommand) -> bytes:
    """Every field counts unless it is known not to: a new one cannot be forgotten here."""
    fields = [field.name for field in dataclasses.fields(command) if field.name not in _APART]
    parts = [part for name in fields for part in (name.encode(), canonical(getattr(command, name)))]
    return _digest(type(command).__name__.encode(), *parts)


async def _image_digest(image: bytes) -> bytes:
    if len(image) > _LARGE:
        return await asyncio.to_thread(_digest, image)
    return _digest(image)


def _digest(*parts: bytes) -> bytes:
    """SHA-256 over parts with their lengths, so that none can pass for the end of another."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()
