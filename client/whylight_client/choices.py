"""What a caller can choose, as Python values, and the requests that are made of it."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from whylight_client._protos.explain.v1 import explanation_service_pb2 as api
from whylight_client._protos.explain.v1 import method_pb2, quality_pb2

Value: TypeAlias = str | int | float | bool | Sequence[str]
"""Value of a parameter."""

DEFAULT_METHOD = "grad_cam"


@dataclass(frozen=True)
class Method:
    """A saliency method with the parameters that shall differ from their defaults.

    Attributes:
        name: as `Client.methods` lists it.
        parameters: by name.
    """

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A figure of quality to compute, with the parameters that shall differ from their defaults.

    Attributes:
        name: as `Client.metrics` lists it.
        parameters: by name.
    """

    name: str
    parameters: Mapping[str, str | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class TopK:
    """The k most probable classes, 1 to 10."""

    k: int


Targets: TypeAlias = int | str | Sequence[int | str] | TopK
"""The classes to explain: an index or a label, several of them, or the most probable ones."""


class ExplainOptions(TypedDict, total=False):
    """What can be chosen of an explanation; all of it has a default.

    Attributes:
        method: name of a method, or a `Method`. Default: "grad_cam".
        parameters: of the method, where it is given by its name.
        targets: the classes to explain. Default: the predicted one.
        quality: metrics to compute of each map, by name or as `Metric`. Default: none.
        compare_with: a second method to compare with, for the metrics that need it and the warning METHODS_DISAGREE.
        top_k: how many classes to predict, 1 to 100. Default: 5.
        model_version: the version that must answer. Default: the deployed one.
        allow_partial: when the deadline comes before the method's last step, take the best map so far. Default: False.
        use_cache: take an answer that the service has kept, and let it keep this one. Default: True.
    """

    method: str | Method
    parameters: Mapping[str, Value]
    targets: Targets | None
    quality: Sequence[str | Metric]
    compare_with: str | Method | None
    top_k: int | None
    model_version: str
    allow_partial: bool
    use_cache: bool


def predict_request(
    image: bytes, model: str, top_k: int | None, model_version: str, use_cache: bool
) -> api.PredictRequest:
    """The request for a prediction; arguments as in `ExplainOptions`."""
    return api.PredictRequest(
        model=model, image=image, top_k=top_k, model_version=model_version, no_cache=not use_cache
    )


def explain_request(image: bytes, model: str, options: ExplainOptions) -> api.ExplainRequest:
    """The request for an explanation.

    Raises:
        TypeError: there is no such option, or a parameter of another type than the method takes.
        ValueError: this client knows no such method or parameter.
    """
    unknown = options.keys() - ExplainOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(ExplainOptions.__annotations__)
        raise TypeError(f"no option {', '.join(map(repr, sorted(unknown)))}; there are: {known}")
    return api.ExplainRequest(
        model=model,
        image=image,
        method=_method(options.get("method", DEFAULT_METHOD), options.get("parameters")),
        targets=_targets(options.get("targets")),
        quality=_quality(options.get("quality", ()), options.get("compare_with")),
        top_k=options.get("top_k"),
        model_version=options.get("model_version", ""),
        allow_partial=options.get("allow_partial", False),
        no_cache=not options.get("use_cache", True),
    )


def duration(seconds: float | None) -> Duration | None:
    """Seconds as a message."""
    if seconds is None:
        return None
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def from_method(message: method_pb2.Method) -> Method | None:
    """The method that an answer names, with every parameter that has a value; None where there is none."""
    name = message.WhichOneof("method")
    if name is None:
        return None
    chosen = getattr(message, name)
    parameters = {}
    for field_, value in chosen.ListFields():
        parameters[field_.name] = tuple(value) if field_.is_repeated else value
    return Method(name, parameters)


def _method(chosen: str | Method, parameters: Mapping[str, Value] | None) -> method_pb2.Method:
    if isinstance(chosen, Method):
        if parameters:
            raise ValueError("a Method has its parameters itself")
    else:
        chosen = Method(chosen, parameters or {})
    known = method_pb2.Method.DESCRIPTOR.fields_by_name
    if chosen.name not in known:
        raise ValueError(f"no method {chosen.name!r}; there are: {', '.join(sorted(known))}")
    message = method_pb2.Method()
    inner = getattr(message, chosen.name)
    inner.SetInParent()
    for name, value in chosen.parameters.items():
        _set(inner, chosen.name, name, value)
    return message


def _set(message: Message, method: str, name: str, value: Any) -> None:
    field_ = message.DESCRIPTOR.fields_by_name.get(name)
    if field_ is None:
        known = ", ".join(message.DESCRIPTOR.fields_by_name) or "none"
        raise ValueError(f"no parameter {name!r} of {method}; there are: {known}")
    try:
        if field_.is_repeated:
            getattr(message, name).extend([value] if isinstance(value, str) else value)
        else:
            setattr(message, name, value)
    except (TypeError, ValueError):
        raise TypeError(f"{value!r} is no value for the parameter {name} of {method}") from None


def _targets(targets: Targets | None) -> api.Targets | None:
    if targets is None:
        return None
    if isinstance(targets, TopK):
        return api.Targets(top_k=targets.k)
    several = targets if isinstance(targets, Sequence) and not isinstance(targets, str) else [targets]
    return api.Targets(classes=api.ClassList(classes=[_reference(each) for each in several]))


def _reference(target: Any) -> api.ClassReference:
    if isinstance(target, str):
        return api.ClassReference(label=target)
    index = operator.index(target)
    if index < 0:
        raise ValueError(f"the index of a class is 0 or more, not {index}")
    return api.ClassReference(index=index)


def _quality(metrics: Sequence[str | Metric], compare_with: str | Method | None) -> quality_pb2.QualityOptions | None:
    if not metrics and compare_with is None:
        return None
    if isinstance(metrics, str):
        raise TypeError(f"quality is a list of metrics: [{metrics!r}]")
    options = quality_pb2.QualityOptions()
    for metric in metrics:
        chosen = Metric(metric) if isinstance(metric, str) else metric
        options.metrics.add(name=chosen.name).parameters.update(dict(chosen.parameters))
    if compare_with is not None:
        options.compare_with.CopyFrom(_method(compare_with, None))
    return options
