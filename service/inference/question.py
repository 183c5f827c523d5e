"""What a request asks for: requests to explain.v1, one for each image, and the tensors of their answers."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeAlias

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, types_pb2
from protos.inference import inference_service_pb2 as oip
from service.errors import Violation
from service.inference.images import Limits, to_images
from service.inference.outputs import OUTPUTS, QUALITY, output
from service.inference.parameters import Parameters
from service.inference.refusals import refuse
from service.struct_values import to_struct_value

Asked: TypeAlias = api.PredictRequest | api.ExplainRequest

DEFAULT_METHOD = "grad_cam"
RESOLUTIONS = {"native": types_pb2.MAP_RESOLUTION_NATIVE, "input": types_pb2.MAP_RESOLUTION_INPUT}
MICROSECOND = 1e-6
# KServe's clients may say with an output how it shall be encoded in JSON.
_HARMLESS = frozenset({"binary_data"})
_UNKNOWN_OF_PREDICTION = "is no parameter of a prediction; explain=true, or naming saliency, asks for an explanation"


@dataclass(frozen=True)
class Question:
    """A request, understood.

    Attributes:
        requests: the same to explain.v1, one for each image; they differ in nothing else.
        named: the outputs that the client names; empty where it leaves the choice.
        outputs: those of the answer, in order; without `named`, also those that only full precision has.
        raw: whether the answer has raw contents, as the request.
        timeout: seconds that the client gives it; None where it says nothing.
    """

    requests: tuple[Asked, ...]
    named: tuple[str, ...]
    outputs: tuple[str, ...]
    raw: bool
    timeout: float | None


def to_question(request: oip.ModelInferRequest, limits: Limits) -> Question:
    """Understand a request. What explain.v1 checks is left to it.

    Raises:
        InvalidRequestError: with a violation for whatever does not fit the protocol, or has no counterpart there.
    """
    images = to_images(request, limits)
    parameters = Parameters(request.parameters)
    named = _named(request, parameters)
    timeout = _timeout(parameters)
    parameters.take_count("priority")  # which of a client's requests goes first is not for the client to say
    explain, by_name = parameters.take("explain", bool), _are_explained(named)
    if explain is False and by_name:
        parameters.refuse("explain", "must not be false: an output is named that only explanations have")
    asked: Asked
    if explain or by_name:
        asked = _explain_request(named, parameters)
        unknown = _unknown(asked.method)
        outputs = _explain_outputs(named, asked, whole=bool(explain))
    else:
        asked = api.PredictRequest()
        unknown = _UNKNOWN_OF_PREDICTION
        outputs = named or tuple(name for name, each in OUTPUTS.items() if not each.explains)
    asked.model, asked.model_version = request.model_name, request.model_version
    asked.no_cache = bool(parameters.take("no_cache", bool))
    top_k = parameters.take_count("top_k")
    if top_k is not None:
        asked.top_k = top_k
    parameters.refuse_left(unknown)
    if parameters.violations:
        raise refuse(parameters.violations)
    raw = bool(request.raw_input_contents)
    return Question(tuple(_each(asked, images)), named, tuple(dict.fromkeys(outputs)), raw, timeout)


def _each(asked: Asked, images: Iterable[bytes]) -> Iterator[Asked]:
    """The request about each image."""
    for image in images:
        about = deepcopy(asked)
        about.image = image
        yield about


def _explain_outputs(named: Sequence[str], request: api.ExplainRequest, *, whole: bool) -> tuple[str, ...]:
    """What is named, or else all that is sent; the figures that were asked for, and with `whole` the map."""
    sent = [name for name, each in OUTPUTS.items() if each.sent]
    figures = [QUALITY + metric.name for metric in request.quality.metrics]
    return (*(named or sent), *(["saliency"] if whole else []), *figures)


def _named(request: oip.ModelInferRequest, parameters: Parameters) -> tuple[str, ...]:
    for position, wanted in enumerate(request.outputs):
        field = f"outputs[{position}]"
        if output(wanted.name) is None:
            parameters.violations.append(Violation(f"{field}.name", "is no output; ModelMetadata names them"))
        elif wanted.parameters.keys() - _HARMLESS:
            parameters.violations.append(Violation(f"{field}.parameters", "must be empty"))
    return tuple(wanted.name for wanted in request.outputs)


def _timeout(parameters: Parameters) -> float | None:
    """In seconds. As with Triton, the parameter is in microseconds, and 0 says nothing."""
    timeout = parameters.take("timeout", int)
    if timeout is not None and timeout < 0:
        parameters.refuse("timeout", "must be a number of microseconds, not below 0")
    return timeout * MICROSECOND if timeout else None


def _are_explained(named: Sequence[str]) -> bool:
    """Whether an output is named that only explanations have."""
    return any(each is not None and each.explains for each in map(output, named))


def _explain_request(named: Sequence[str], parameters: Parameters) -> api.ExplainRequest:
    request = api.ExplainRequest(allow_partial=bool(parameters.take("allow_partial", bool)))
    _choose(request.method, "method", parameters.take("method", str) or DEFAULT_METHOD, parameters)
    parameters.fill(getattr(request.method, str(request.method.WhichOneof("method"))))
    _set_targets(request, parameters)
    _set_quality(request, named, parameters)
    resolution = parameters.take("resolution", str)
    if resolution is not None and resolution not in RESOLUTIONS:
        parameters.refuse("resolution", f"must be {' or '.join(RESOLUTIONS)}")
    request.output.resolution = RESOLUTIONS.get(resolution or "", types_pb2.MAP_RESOLUTION_NATIVE)
    request.output.map_png, request.output.overlay_png = "map_png" in named, "overlay_png" in named
    return request


def _unknown(method: method_pb2.Method) -> str:
    """What a parameter is that is neither the service's own nor one of the method's."""
    name = str(method.WhichOneof("method"))
    known = ", ".join(field.name for field in getattr(method, name).DESCRIPTOR.fields) or "none"
    return f"is no parameter of the service, of {name} (it has: {known}) or of a metric that is asked for"


def _choose(method: method_pb2.Method, parameter: str, name: str, parameters: Parameters) -> None:
    """Set a method with its defaults. Without one, nobody knows what the other parameters mean."""
    if name not in method_pb2.Method.DESCRIPTOR.fields_by_name:
        known = ", ".join(sorted(method_pb2.Method.DESCRIPTOR.fields_by_name))
        parameters.refuse(parameter, f"names no method; there are: {known}")
        raise refuse(parameters.violations)
    getattr(method, name).SetInParent()


def _set_targets(request: api.ExplainRequest, parameters: Parameters) -> None:
    """A class by its index or its label, or the most probable ones."""
    target, top_k = parameters.take_index_or_label("target"), parameters.take_count("target_top_k")
    if target is not None and top_k is not None:
        parameters.refuse("target_top_k", "must not come with target")
    if isinstance(target, str):
        request.targets.classes.classes.add(label=target)
    elif target is not None:
        request.targets.classes.classes.add(index=target)
    elif top_k is not None:
        request.targets.top_k = top_k


def _set_quality(request: api.ExplainRequest, named: Sequence[str], parameters: Parameters) -> None:
    """The metrics that a parameter lists, and those whose outputs are named, each with its own parameters."""
    listed = [name.strip() for name in (parameters.take("quality", str) or "").split(",")]
    outputs = [name.removeprefix(QUALITY) for name in named if name.startswith(QUALITY)]
    for name in dict.fromkeys([*filter(None, listed), *outputs]):
        metric = request.quality.metrics.add(name=name)
        for key, value in parameters.take_below(f"{QUALITY}{name}.").items():
            metric.parameters.fields[key].CopyFrom(to_struct_value(value))
    second = parameters.take("compare_with", str)
    if second is not None:
        _choose(request.quality.compare_with, "compare_with", second, parameters)
