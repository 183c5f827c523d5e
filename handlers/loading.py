"""An unpacked archive to a network that is ready to explain."""

import hashlib
import importlib.util
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from explainers import Activation, ExplainerError, Method, Network, UnknownLayerError
from explainers.arithmetic import Arithmetic
from handlers.arrangement import arranged
from handlers.exported import load_export
from handlers.torchvision_shim import ensure_operators
from model_store.document import DOCUMENT_NAME, ModelDocument
from runtimes import RUNTIME, FastPath, FastPathError

logger = logging.getLogger(__name__)

TORCH = "torch"
ONNX_EXTRA = "pip install 'whylight[onnx]'"


class LoadError(RuntimeError):
    """The archive is refused. TorchServe logs the message; clients never see it."""


class DigestError(LoadError):
    """The weights are not those that the archive was built with."""


class WeightsError(LoadError):
    """The weights cannot be read safely, or do not fit the architecture."""


class ArchitectureError(LoadError):
    """The architecture cannot be built, or is no image classifier."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in this worker.

    Attributes:
        document: what the archive says of it.
        network: ready to explain, on `device`.
        device: "cpu" or "cuda:0".
        module: what `network` was made of; the network keeps its own copy of the module tree and shares the weights.
        arithmetic: what is not computed in float32 (`handlers.arithmetic`): a question that is missing here is.
        fast: what answers predictions and fast maps in the network's place; None: nothing does.
    """

    document: ModelDocument
    network: Network
    device: torch.device
    module: nn.Module
    arithmetic: Mapping[Method | None, Arithmetic] = field(default_factory=dict)
    fast: FastPath | None = None

    @property
    def runtime(self) -> str:
        """The library that computes the network, where `fast` does not."""
        return RUNTIME if self.document.source.kind == "onnx" else TORCH

    @property
    def uses_onnx_runtime(self) -> bool:
        """Whether ONNX Runtime computes any of its answers."""
        return self.fast is not None or self.runtime == RUNTIME

    def arithmetic_of(self, method: Method | None) -> Arithmetic:
        """What a method, with its parameters resolved, is computed in; None: a prediction."""
        return self.arithmetic.get(method, Arithmetic.FLOAT32)


def load_model(folder: Path, device: torch.device) -> LoadedModel:
    """Load the archive that was unpacked into `folder`.

    Raises:
        LoadError: it is damaged, unsafe or does not fit together.
    """
    document = read_document(folder)
    verify(folder / document.weights, document.sha256, document.name, "weights")
    module = _build(folder, document, device)
    network = arranged(module, _prepare(module, document, device))
    if network.class_count == 1 and network.activation is Activation.SOFTMAX:
        raise LoadError(f"{document.name}: the softmax of one logit is always 1: set activation = 'sigmoid'")
    if len(document.labels) != network.class_count:
        raise LoadError(f"{document.name}: {len(document.labels)} labels for {network.class_count} classes")
    return LoadedModel(document, network, device, module)


def choose_device(gpu_id: int | None) -> torch.device:
    """The GPU that TorchServe gave this worker, or the CPU where it gave none or none works."""
    if gpu_id is not None and torch.cuda.is_available():
        return torch.device("cuda", int(gpu_id))
    return torch.device("cpu")


def read_document(folder: Path) -> ModelDocument:
    """What the unpacked archive says of its model.

    Raises:
        LoadError: it is missing or unreadable.
    """
    try:
        return ModelDocument.model_validate_json((folder / DOCUMENT_NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise LoadError(f"{DOCUMENT_NAME} is missing or unreadable: {error}") from None


def verify(path: Path, expected: str, model: str, what: str) -> None:
    """Compare the digest of the weights or of the graph before anything reads the file.

    Raises:
        WeightsError: there is no such file.
        DigestError: it is another one.
    """
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise WeightsError(f"{model}: the {what} in the archive cannot be read") from None
    if actual != expected:
        raise DigestError(f"{model}: sha256 of the {what} is {actual}, but {expected} is required")


def _build(folder: Path, document: ModelDocument, device: torch.device) -> nn.Module:
    """The network with its weights."""
    if document.source.kind == "pt2":
        try:
            return load_export(folder / document.weights, device)
        except Exception as error:
            raise WeightsError(f"{document.name}: {error}") from error
    if document.source.kind == "onnx":
        return _load_onnx(folder / document.weights, document, device)
    try:
        module = _construct(folder, document)
    except Exception as error:
        raise ArchitectureError(f"{document.name}: {document.architecture} cannot be built: {error}") from error
    if not isinstance(module, nn.Module):
        raise ArchitectureError(f"{document.name}: {document.architecture} did not return a torch module")
    _fill(module, read_weights(folder / document.weights), document.name)
    return module.float().eval().to(device)


def _load_onnx(path: Path, document: ModelDocument, device: torch.device) -> nn.Module:
    try:
        from runtimes.classifier import load_classifier
    except ModuleNotFoundError as error:
        raise ArchitectureError(f"{document.name}: {error.name} is not installed: {ONNX_EXTRA}") from None
    activation = Activation(document.activation)
    try:
        return load_classifier(path, document.preprocessing.size, device, activation, document.target_layer)
    except FastPathError as error:
        raise ArchitectureError(f"{document.name}: {error}") from error


def _construct(folder: Path, document: ModelDocument) -> Any:
    """Call the constructor; no weights are fetched."""
    source, arguments = document.source, document.arguments
    if source.kind == "torchvision":
        ensure_operators()
        import torchvision

        return torchvision.models.get_model(source.name, weights=None, **arguments)
    if source.kind == "timm":
        ensure_operators()  # timm imports torchvision
        import timm

        return timm.create_model(source.name, pretrained=False, **arguments)
    return getattr(_import_file(folder / source.file, document.name), source.name)(**arguments)


def _import_file(path: Path, model: str) -> Any:
    """Import a file of the archive under a name of its own: two models may both bring a `net.py`."""
    name = f"_whylight_architecture_{model.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict, floating-point numbers as float32.

    Raises:
        WeightsError: not readable without unpickling objects, or not a plain state dict.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path.name} cannot be read: {error}") from None
    except Exception as error:
        logger.debug("weights refused", exc_info=error)
        raise WeightsError(f"{path.name} holds more than tensors, or is damaged: it is not unpickled") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path.name} must hold a plain state dict: names and tensors, nothing around it")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _fill(module: nn.Module, state: dict[str, Tensor], model: str) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        hint = ""
        if all(name.startswith("module.") for name in state):
            hint = " (every name begins with 'module.': save the state of the wrapped module)"
        raise WeightsError(f"{model}: the weights do not fit the architecture{hint}: {error}") from None


def _prepare(module: nn.Module, document: ModelDocument, device: torch.device) -> Network:
    preprocessing = document.preprocessing
    try:
        return Network(
            module,
            input_size=preprocessing.size,
            mean=preprocessing.mean,
            std=preprocessing.std,
            target_layer=document.target_layer,
            activation=Activation(document.activation),
            device=device,
        )
    except UnknownLayerError as error:
        raise ArchitectureError(f"{document.name}: target_layer {document.target_layer}: {error}") from error
    except ExplainerError as error:
        raise ArchitectureError(f"{document.name}: {error}") from error
    except Exception as error:
        size = "x".join(map(str, preprocessing.size))
        hint = "; an export needs a dynamic batch dimension" if document.source.kind == "pt2" else ""
        raise ArchitectureError(f"{document.name}: a batch of {size} images fails{hint}: {error}") from error
