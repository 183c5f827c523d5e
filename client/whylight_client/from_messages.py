"""From the service's answers to results."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from whylight_client import events
from whylight_client import results as r
from whylight_client._protos.explain.v1 import explanation_service_pb2 as api
from whylight_client._protos.explain.v1 import quality_pb2, types_pb2
from whylight_client.choices import from_method
from whylight_client.maps import to_map


def to_prediction(response: api.PredictResponse) -> r.PredictResult:
    """The result of a prediction."""
    precise = _precise(response.provenance)
    return r.PredictResult(
        predictions=tuple(_score(each, precise) for each in response.predictions),
        image=_image(response.image),
        provenance=_provenance(response.provenance),
        timings=_timings(response.timings),
        warnings=tuple(map(_warning, response.warnings)),
    )


def to_explanation(response: api.ExplainResponse, source: bytes | None) -> r.ExplainResult:
    """The result of an explanation of the file `source`.

    Raises:
        ValueError: a map is of a kind that this client does not know.
    """
    precise = _precise(response.provenance)
    image = _image(response.image)
    return r.ExplainResult(
        predictions=tuple(_score(each, precise) for each in response.predictions),
        explanations=tuple(_explanation(each, image, source, precise) for each in response.explanations),
        image=image,
        provenance=_provenance(response.provenance),
        timings=_timings(response.timings),
        warnings=tuple(map(_warning, response.warnings)),
        interpretation=response.interpretation,
    )


def to_event(response: api.StreamExplainResponse, source: bytes) -> events.Event | None:
    """What a message of a stream tells; None for a kind that this client does not know.

    Raises:
        ValueError: as `to_explanation`.
    """
    match response.WhichOneof("event"):
        case "prediction":
            return events.PredictionEvent(to_prediction(response.prediction))
        case "preview":
            return events.PreviewEvent(to_explanation(response.preview, source))
        case "progress":
            return _progress(response.progress)
        case "result":
            return events.ResultEvent(to_explanation(response.result, source))
    return None


def seconds(duration: Duration) -> float:
    """A message as seconds."""
    return duration.ToNanoseconds() / 1e9


def name_of(enumeration: Any, number: int) -> str:
    """Name of a value without the name of its enumeration: WARNING_CODE_PARTIAL is PARTIAL.

    A value that this client does not know is its number.
    """
    known = enumeration.DESCRIPTOR.values_by_number
    if number not in known:
        return str(number)
    prefix: str = known[0].name.removesuffix("UNSPECIFIED")
    name: str = known[number].name
    return name.removeprefix(prefix)


def _precise(provenance: types_pb2.Provenance) -> bool:
    """Whether logits and raw ranges are sent."""
    return provenance.precision == types_pb2.PRECISION_FULL


def _score(message: types_pb2.ClassScore, precise: bool) -> r.ClassScore:
    return r.ClassScore(message.index, message.label, message.logit if precise else None, message.probability)


def _explanation(
    message: types_pb2.Explanation, image: r.ImageInfo, source: bytes | None, precise: bool
) -> r.Explanation:
    return r.Explanation(
        target=_score(message.target, precise),
        map=to_map(message.map, precise=precise),
        quality=tuple(map(_figure, message.quality)),
        partial=r.Partial(message.partial.step, message.partial.steps) if message.HasField("partial") else None,
        image=image,
        source=source,
    )


def _figure(message: quality_pb2.QualityFigure) -> r.QualityFigure:
    return r.QualityFigure(
        metric=message.metric,
        value=message.value if message.HasField("value") else None,
        unit=message.unit,
        higher_is_better=message.direction == quality_pb2.METRIC_DIRECTION_HIGHER,
        parameters=MessageToDict(message.parameters),
        title=message.title,
        formula=message.formula,
        reference=message.reference,
    )


def _progress(message: api.ExplanationProgress) -> events.ProgressEvent:
    return events.ProgressEvent(
        step=message.step,
        steps=message.steps,
        objective=message.objective if message.HasField("objective") else None,
        maps={each.target_index: to_map(each.map, precise=False) for each in message.maps},
    )


def _image(message: types_pb2.ImageInfo) -> r.ImageInfo:
    return r.ImageInfo(message.width, message.height, message.exif_orientation, message.format)


def _warning(message: types_pb2.Warning) -> r.ResultWarning:
    target = message.target_index if message.HasField("target_index") else None
    return r.ResultWarning(name_of(types_pb2.WarningCode, message.code), message.message, target)


def _timings(message: types_pb2.Timings) -> r.Timings:
    return r.Timings(**{field.name: seconds(getattr(message, field.name)) for field in message.DESCRIPTOR.fields})


def _provenance(message: types_pb2.Provenance) -> r.Provenance:
    return r.Provenance(
        request_id=message.request_id,
        model=message.model,
        model_version=message.model_version,
        weights_digest=message.weights_digest,
        preprocessing_digest=message.preprocessing_digest,
        method=from_method(message.method),
        target_layer=message.target_layer,
        device=message.device,
        library_versions=dict(message.library_versions),
        precision=name_of(types_pb2.Precision, message.precision),
        cache=name_of(types_pb2.CacheOutcome, message.cache.outcome),
        cache_age=seconds(message.cache.age) if message.cache.HasField("age") else None,
    )
