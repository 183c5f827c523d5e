"""From the worker's result to public answers."""

from google.protobuf import duration_pb2

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.catalog import DeployedModel
from service.observation import CacheUse, Observation

LOW_CONFIDENCE = 0.5
INTERPRETATION = (
    "The map shows which parts of the image influenced this model's score for the class. It does not show where an "
    "object or a lesion is, and it is no measure of whether the prediction is right."
)


def to_predict_response(
    result: worker_pb2.ImageResult, model: DeployedModel, observation: Observation
) -> api.PredictResponse:
    """The answer to Predict."""
    return api.PredictResponse(
        predictions=result.predictions,
        image=result.image,
        provenance=_provenance(result, model, observation),
        timings=_timings(observation),
        warnings=_warnings(result, model.known.activation),
    )


def to_explain_response(
    result: worker_pb2.ImageResult, model: DeployedModel, observation: Observation
) -> api.ExplainResponse:
    """The answer to Explain."""
    return api.ExplainResponse(
        predictions=result.predictions,
        explanations=result.explanations,
        image=result.image,
        provenance=_provenance(result, model, observation),
        timings=_timings(observation),
        warnings=_warnings(result, model.known.activation),
        interpretation=INTERPRETATION,
    )


def is_partial(result: worker_pb2.ImageResult) -> bool:
    """Whether the maps are what there was when the time was up."""
    return any(explanation.HasField("partial") for explanation in result.explanations)


def record_worker_stages(result: worker_pb2.ImageResult, round_trip: float, observation: Observation) -> None:
    """Split the seconds of a round trip into the worker's stages and the way there and back."""
    for stage in ("decode", "compute", "render", "quality"):
        observation.stages[stage] = getattr(result, stage).ToNanoseconds() / 1e9
    observation.stages["transport"] = max(0.0, round_trip - result.handler.ToNanoseconds() / 1e9)


def _provenance(result: worker_pb2.ImageResult, model: DeployedModel, observation: Observation) -> types_pb2.Provenance:
    known = model.known
    return types_pb2.Provenance(
        request_id=observation.request_id,
        model=model.name,
        model_version=known.version,
        weights_digest=known.weights_digest,
        preprocessing_digest=known.preprocessing_digest,
        method=result.resolved_method if result.HasField("resolved_method") else None,
        target_layer=result.target_layer,
        device=known.device,
        library_versions=known.library_versions,
        arithmetic=result.arithmetic,
        cache=_cache(observation.cache),
        runtime=result.runtime,
    )


def _cache(use: CacheUse | None) -> types_pb2.CacheUse | None:
    if use is None:
        return None
    return types_pb2.CacheUse(outcome=f"CACHE_OUTCOME_{use.outcome.name}", age=_duration(use.age) if use.age else None)


def _timings(observation: Observation) -> types_pb2.Timings:
    timings = types_pb2.Timings(total=_duration(observation.elapsed))
    for stage, seconds in observation.stages.items():
        getattr(timings, stage).CopyFrom(_duration(seconds))
    return timings


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def _warnings(result: worker_pb2.ImageResult, activation: types_pb2.Activation) -> list[types_pb2.Warning]:
    found = _low_confidence(result, activation)
    found.extend(
        types_pb2.Warning(
            code=types_pb2.WARNING_CODE_DEGENERATE_MAP,
            message="The map is constant: it says nothing about the image, and is not drawn.",
            target_index=explanation.target.index,
        )
        for explanation in result.explanations
        if explanation.map.degenerate
    )
    found.extend(result.warnings)
    return found


def _low_confidence(result: worker_pb2.ImageResult, activation: types_pb2.Activation) -> list[types_pb2.Warning]:
    """With softmax the predicted class counts; with sigmoid the explained ones, for to find no class is an answer."""
    code = types_pb2.WARNING_CODE_LOW_CONFIDENCE
    if activation == types_pb2.ACTIVATION_SIGMOID:
        message = f"The class has a probability below {LOW_CONFIDENCE}: the map shows what speaks for it nevertheless."
        targets = [explanation.target for explanation in result.explanations]
        unsure = [target for target in targets if target.probability < LOW_CONFIDENCE]
        return [types_pb2.Warning(code=code, message=message, target_index=target.index) for target in unsure]
    if result.predictions and result.predictions[0].probability < LOW_CONFIDENCE:
        message = f"The predicted class has a probability below {LOW_CONFIDENCE}: the model itself is unsure."
        return [types_pb2.Warning(code=code, message=message)]
    return []
