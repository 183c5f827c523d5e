"""A small client of the service for the command line: errors as text a person can act on."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import any_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import error_details_pb2, status_pb2

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2
from service.status_details import KEY

MAX_MESSAGE_BYTES = 256 * 1024 * 1024


class CallError(Exception):
    """The service refused, or could not be reached. The message says what to do about it.

    Attributes:
        code: name of the status, for example "NOT_FOUND"; empty where nothing was sent.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Client:
    """A connection to the service, for use in a `with` block."""

    def __init__(self, address: str, timeout: float = 60.0) -> None:
        """Connect to `address` (host:port); every call may take `timeout` seconds."""
        limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_retries", 1)]
        self._channel = grpc.insecure_channel(address, options=limits)
        self._stub = api_grpc.ExplanationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._timeout = timeout

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
            return procedure(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise CallError(describe_error(error), error.code().name) from None


def describe_error(error: Any) -> str:
    """Status, message and the fields that were wrong, on as many lines."""
    if error.code() is grpc.StatusCode.UNAVAILABLE and KEY not in dict(error.trailing_metadata() or ()):
        return "UNAVAILABLE: no service answers at this address; `whylight serve` starts one"
    lines = [f"{error.code().name}: {error.details()}"]
    for key, value in error.trailing_metadata() or ():
        if key == KEY:
            lines.extend(f"  {field}: {text}" for field, text in _violations(status_pb2.Status.FromString(value)))
    return "\n".join(lines)


def _violations(status: status_pb2.Status) -> list[tuple[str, str]]:
    detail: any_pb2.Any
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            return [(violation.field, violation.description) for violation in bad.field_violations]
    return []


def build_method(name: str, parameters: Sequence[str]) -> method_pb2.Method:
    """A method with parameters in text form.

    Args:
        name: name of the method.
        parameters: "name=value" each.

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
            known = ", ".join(f"{known.name}=..." for known in chosen.DESCRIPTOR.fields) or "none"
            raise CallError(f"no parameter {text!r} of {name}; there are: {known}")
        setattr(chosen, key, _value(field, value))
    return method


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


def build_targets(targets: Sequence[str], top_k: int | None) -> api.Targets | None:
    """The classes to explain: indices or labels, or the k most probable ones; None for the predicted class."""
    if targets:
        references = [
            api.ClassReference(index=int(text)) if text.isdecimal() else api.ClassReference(label=text)
            for text in targets
        ]
        return api.Targets(classes=api.ClassList(classes=references))
    return None if top_k is None else api.Targets(top_k=top_k)
