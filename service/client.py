"""A small client of the service for the command line: errors as text a person can act on."""

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.descriptor import FieldDescriptor

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2, quality_pb2
from service.access import Access
from service.access import CallError as CallError
from service.advice import describe_error
from service.struct_values import to_struct_value

MAX_MESSAGE_BYTES = 256 * 1024 * 1024


class Client:
    """A connection to the service, for use in a `with` block."""

    def __init__(self, address: str, timeout: float = 60.0, access: Access = Access()) -> None:  # noqa: B008 - frozen
        """Connect to `address` (host:port); every call may take `timeout` seconds.

        Raises:
            CallError: `access` cannot be used.
        """
        limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_retries", 1)]
        self._channel = access.open(address, limits)
        self._metadata = access.metadata
        self._stub = api_grpc.ExplanationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._timeout = timeout
        self._address = address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def predict(self, request: api.PredictRequest) -> api.PredictResponse:
        """Predict one image."""
        return self._call(self._stub.Predict, request)  # type: ignore[no-any-return]

    def explain(self, request: api.ExplainRequest) -> api.ExplainResponse:
        """Predict and explain one image."""
        return self._call(self._stub.Explain, request)  # type: ignore[no-any-return]

    def stream_explain(self, request: api.StreamExplainRequest) -> Generator[api.StreamExplainResponse, None, None]:
        """Predict and explain one image, and tell of it meanwhile. Closing the generator ends the work.

        The result is the last one, and comes when the status is there: who then stops reading has cancelled nothing.
        """
        call = self._stub.StreamExplain(request, timeout=self._timeout, metadata=self._metadata)
        try:
            for response in call:
                last = [*call] if response.HasField("result") else []
                yield from (response, *last)
        except grpc.RpcError as error:
            raise CallError(describe_error(error, self._address), error.code().name) from None
        finally:
            call.cancel()

    def models(self) -> Sequence[Any]:
        """The deployed models."""
        return self._call(self._stub.ListModels, api.ListModelsRequest()).models  # type: ignore[no-any-return]

    def model(self, name: str) -> Any:
        """One model with its labels, layers and methods."""
        return self._call(self._stub.GetModel, api.GetModelRequest(model=name)).model

    def metrics(self) -> Sequence[Any]:
        """The metrics that a request can ask for."""
        return self._call(self._stub.ListMetrics, api.ListMetricsRequest()).metrics  # type: ignore[no-any-return]

    def methods(self, model: str = "") -> Sequence[Any]:
        """The saliency methods, or those that work on one model."""
        return self._call(self._stub.ListMethods, api.ListMethodsRequest(model=model)).methods  # type: ignore[no-any-return]

    def _call(self, procedure: Any, request: Any) -> Any:
        try:
            return procedure(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise CallError(describe_error(error, self._address), error.code().name) from None


def build_method(name: str, parameters: Sequence[str]) -> method_pb2.Method:
    """A method with parameters in text form.

    Args:
        name: name of the method.
        parameters: "name=value" each; a list is "name=one,two", or the name again for each entry.

    Raises:
        CallError: there is no such method or parameter, or the text is no such value.
    """
    names = [field.name for field in method_pb2.Method.DESCRIPTOR.fields]
    if name not in names:
        raise CallError(f"no method {name!r}; there are: {', '.join(sorted(names))}")
    method = method_pb2.Method()
    chosen = getattr(method, name)
    chosen.SetInParent()
    for text in parameters:
        key, separator, value = text.partition("=")
        field = chosen.DESCRIPTOR.fields_by_name.get(key)
        if field is None or not separator:
            known = ", ".join(map(_usage, chosen.DESCRIPTOR.fields)) or "none"
            raise CallError(f"no parameter {text!r} of {name}; there are: {known}")
        if field.is_repeated:
            getattr(chosen, key).extend(_value(field, entry) for entry in value.split(","))
        else:
            setattr(chosen, key, _value(field, value))
    return method


def _usage(field: FieldDescriptor) -> str:
    return f"{field.name}=...,..." if field.is_repeated else f"{field.name}=..."


def _value(field: FieldDescriptor, text: str) -> str | int | float | bool:
    try:
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return text
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return {"true": True, "false": False}[text.lower()]
        if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return float(text)
        return int(text)
    except (ValueError, KeyError):
        raise CallError(f"{text!r} is no value for {field.name}") from None


def build_quality(metrics: Sequence[str], compare_with: str | None) -> quality_pb2.QualityOptions | None:
    """The figures to ask for, in text form; None for nothing.

    Args:
        metrics: "name" or "name:parameter=value,parameter=value" each. A value is true, false, a number, or else text.
        compare_with: name of a second method, with parameters in the same way.

    Raises:
        CallError: a parameter without a value; there is no such second method, or it has no such parameter. Whether
            there is such a metric the service knows.
    """
    if not metrics and compare_with is None:
        return None
    options = quality_pb2.QualityOptions()
    for text in metrics:
        name, parameters = _name_and_parameters(text)
        choice = options.metrics.add(name=name)
        for parameter in parameters:
            key, separator, value = parameter.partition("=")
            if not separator:
                raise CallError(f"no value in {text!r}: write {name}:{key}=...")
            choice.parameters.fields[key].CopyFrom(to_struct_value(value))
    if compare_with is not None:
        options.compare_with.CopyFrom(build_method(*_name_and_parameters(compare_with)))
    return options


def _name_and_parameters(text: str) -> tuple[str, list[str]]:
    name, _, rest = text.partition(":")
    return name, rest.split(",") if rest else []


def build_targets(targets: Sequence[str], top_k: int | None) -> api.Targets | None:
    """The classes to explain: indices or labels, or the k most probable ones; None for the predicted class."""
    if targets:
        references = [
            api.ClassReference(index=int(text)) if text.isdecimal() else api.ClassReference(label=text)
            for text in targets
        ]
        return api.Targets(classes=api.ClassList(classes=references))
    return None if top_k is None else api.Targets(top_k=top_k)
