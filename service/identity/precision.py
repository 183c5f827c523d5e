"""How much of an answer each precision leaves: precise maps and scores give a model away."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import job_pb2, quality_pb2, types_pb2
from service.converters.saliency import quantise
from service.errors import PermissionDeniedError
from service.identity.caller import Precision

_ON_THE_WIRE = {
    Precision.COARSE: types_pb2.PRECISION_COARSE,
    Precision.STANDARD: types_pb2.PRECISION_STANDARD,
    Precision.FULL: types_pb2.PRECISION_FULL,
}


@dataclass(frozen=True)
class _Tier:
    """What is left below full precision.

    Attributes:
        data_type: of the maps.
        decimals: of probabilities.
        digits: significant ones, of quality figures.
        pictures: whether maps may be drawn, and interpolated to the network's input.
    """

    data_type: types_pb2.DataType
    decimals: int
    digits: int
    pictures: bool


_TIERS = {
    Precision.COARSE: _Tier(types_pb2.DATA_TYPE_UINT8, decimals=2, digits=2, pictures=False),
    Precision.STANDARD: _Tier(types_pb2.DATA_TYPE_UINT16, decimals=4, digits=4, pictures=True),
}

# What an operation has inside: its response and its metadata.
_PACKED: tuple[type[Message], ...] = (api.ExplainResponse, job_pb2.ExplanationJobMetadata)


def check_request(request: Message, precision: Precision) -> None:
    """Refuse what the precision does not allow, before it is computed.

    Raises:
        PermissionDeniedError: the request asks for pictures or for interpolated maps at coarse precision.
    """
    tier = _TIERS.get(precision)
    if tier is None or tier.pictures:
        return
    for part in _parts(request):
        if isinstance(part, api.OutputOptions) and (
            part.map_png or part.overlay_png or part.resolution == types_pb2.MAP_RESOLUTION_INPUT
        ):
            raise PermissionDeniedError(
                "the client's precision allows maps on the native grid only, and no pictures",
                reason="PRECISION_TOO_LOW",
            )


def reduce(response: Message, precision: Precision) -> None:
    """Bring an answer to a precision, in place: every score, map and figure in it, whatever message it is."""
    tier = _TIERS.get(precision)
    for part in _parts(response):
        if isinstance(part, types_pb2.Provenance):
            part.precision = _ON_THE_WIRE[precision]
        elif isinstance(part, Any):
            _reduce_packed(part, precision)
        elif tier is not None:
            _reduce_part(part, tier)


def _reduce_packed(packed: Any, precision: Precision) -> None:
    for kind in _PACKED:
        inner = kind()
        if packed.Unpack(inner):
            reduce(inner, precision)
            packed.Pack(inner)


def _reduce_part(part: Message, tier: _Tier) -> None:
    if isinstance(part, types_pb2.ClassScore):
        part.ClearField("logit")
        part.probability = round(part.probability, tier.decimals)
    elif isinstance(part, types_pb2.SaliencyMap):
        part.ClearField("raw_minimum")
        part.ClearField("raw_maximum")
        if not tier.pictures and _is_interpolated(part):  # of a job from when the client's precision was higher
            part.ClearField("values")
        if part.HasField("values"):
            quantise(part, tier.data_type)
    elif isinstance(part, api.ExplanationProgress | job_pb2.ExplanationJobMetadata):
        part.ClearField("objective")  # a logit, or made of one
    elif isinstance(part, quality_pb2.QualityFigure):
        if part.HasField("value"):
            part.value = float(f"{part.value:.{tier.digits}g}")
    elif isinstance(part, types_pb2.Explanation) and not tier.pictures:
        part.ClearField("map_png")
        part.ClearField("overlay_png")


def _is_interpolated(saliency: types_pb2.SaliencyMap) -> bool:
    return tuple(saliency.values.shape) != (saliency.native_height, saliency.native_width)


def _parts(message: Message) -> Iterator[Message]:
    """The message and every message that is set within it."""
    yield message
    for name, repeated in _message_fields(message.DESCRIPTOR):
        if repeated:
            for each in getattr(message, name):
                yield from _parts(each)
        elif message.HasField(name):
            yield from _parts(getattr(message, name))


@functools.cache
def _message_fields(kind: Descriptor) -> tuple[tuple[str, bool], ...]:
    """The fields that hold messages, each with whether it repeats. Kept, because descriptors are slow to read."""
    return tuple(
        (field.name, field.is_repeated)
        for field in kind.fields
        if field.message_type is not None
        and not field.message_type.GetOptions().map_entry  # no map of ours has messages for values
    )
