"""What a model can do, for the service's catalogue."""

import importlib.metadata
from collections.abc import Mapping

import numpy
import PIL
import torch

from explainers import METHODS, Activation, ExplainerError, LayerInfo, Method, Network
from explainers.arithmetic import Arithmetic
from handlers.converters import from_layer, from_method_class
from handlers.loading import LoadedModel
from handlers.metrics import OFFERED, from_metric_class
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from runtimes import RUNTIME
from runtimes.session import version

_ACTIVATIONS = {
    Activation.SOFTMAX: types_pb2.ACTIVATION_SOFTMAX,
    Activation.SIGMOID: types_pb2.ACTIVATION_SIGMOID,
}


def describe(model: LoadedModel) -> worker_pb2.DescribeResult:
    """The model, but for its state, and every method that is known here."""
    document, network = model.document, model.network
    message = types_pb2.Model(
        name=document.name,
        version=document.version,
        description=document.description,
        architecture=document.architecture,
        weights_digest=document.weights_digest,
        preprocessing_digest=document.preprocessing_digest,
        input_height=document.preprocessing.size[0],
        input_width=document.preprocessing.size[1],
        labels=document.labels,
        class_count=network.class_count,
        activation=_ACTIVATIONS[network.activation],
        layers=[from_layer(layer) for layer in network.layers],
        methods=[_support(kind, network, model.arithmetic) for kind in METHODS.values()],
        arithmetic=model.arithmetic_of(None),
        device=device_text(model.device),
        library_versions=versions_of(model),
    )
    target = _target_layer(network)
    if target is not None:
        message.target_layer.CopyFrom(from_layer(target))
    return worker_pb2.DescribeResult(
        model=message,
        methods=[from_method_class(kind) for kind in METHODS.values()],
        metrics=[from_metric_class(kind) for kind in OFFERED.values()],
    )


def device_text(device: torch.device) -> str:
    """The text "cpu", or "cuda:0" with the card's name."""
    return "cpu" if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"


def versions_of(model: LoadedModel) -> dict[str, str]:
    """The libraries that the answers of a model depend on."""
    return library_versions() | ({RUNTIME: version()} if model.uses_onnx_runtime else {})


def library_versions() -> dict[str, str]:
    """The libraries that answers depend on."""
    try:
        own = importlib.metadata.version("whylight")
    except importlib.metadata.PackageNotFoundError:
        own = "unknown"
    return {"torch": str(torch.__version__), "numpy": numpy.__version__, "pillow": PIL.__version__, "whylight": own}


def supported_methods(network: Network) -> tuple[str, ...]:
    """Names of the methods that work on a network with their defaults."""
    return tuple(name for name, kind in METHODS.items() if _support(kind, network).supported)


def _target_layer(network: Network) -> LayerInfo | None:
    try:
        return network.target_layer
    except ExplainerError:
        return None


def _support(
    kind: type[Method], network: Network, arithmetic: Mapping[Method | None, Arithmetic] | None = None
) -> types_pb2.MethodSupport:
    """Whether the method works with its defaults, and what it is computed in then."""
    try:
        method = kind().resolve(network)
    except ExplainerError as error:
        return types_pb2.MethodSupport(method=kind.name, supported=False, reason=str(error))
    used = (arithmetic or {}).get(method, Arithmetic.FLOAT32)
    return types_pb2.MethodSupport(method=kind.name, supported=True, arithmetic=used)
