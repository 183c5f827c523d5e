"""An ONNX file to a session on the device that was asked for.

onnxruntime and onnxruntime-gpu are the same module: whichever is installed. The latter computes on the CPU, without a
word, where it finds no CUDA or cuDNN that it likes; here that is an error.
"""

from pathlib import Path
from typing import Any

import torch

from runtimes.errors import GraphError, ProviderError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def open_session(graph: Path | bytes, device: torch.device, threads: int | None = None) -> Any:
    """An `onnxruntime.InferenceSession` that runs on `device`.

    Args:
        graph: the file, or what is in it.
        device: `cpu` or `cuda:0`.
        threads: of one run on the CPU; None: as many as torch uses now.

    Raises:
        ProviderError: ONNX Runtime is not installed, or does not run on that device.
        GraphError: it cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ProviderError(f"onnxruntime is not installed: {_remedy(device)}") from None
    provider = CUDA if device.type == "cuda" else CPU
    if provider not in onnxruntime.get_available_providers():
        raise ProviderError(f"this onnxruntime has no {provider}: {_remedy(device)}")
    onnxruntime.set_default_logger_severity(3)  # errors; it warns of every node that it leaves as it is
    try:
        source = graph if isinstance(graph, bytes) else str(graph)
        session = onnxruntime.InferenceSession(
            source, _options(onnxruntime, threads), providers=_providers(provider, device)
        )
    except Exception as error:  # its own exceptions have no common base
        kind = ProviderError if provider == CUDA else GraphError
        name = "the graph" if isinstance(graph, bytes) else graph.name
        raise kind(f"ONNX Runtime cannot load {name} on {device}: {type(error).__name__}") from error
    used = session.get_providers()[0]
    if used != provider:
        raise ProviderError(f"ONNX Runtime fell back from {provider} to {used}: {_remedy(device)}")
    session.disable_fallback()
    return session


def version() -> str:
    """Of onnxruntime, whichever of its packages is installed."""
    import onnxruntime

    return str(onnxruntime.__version__)


def _options(onnxruntime: Any, threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    # As the workers of torch do it (handlers.torchserve_handler).
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # Threads wait for work by spinning. After a run they must not: workers of other lanes want the processor.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _providers(provider: str, device: torch.device) -> list[Any]:
    if provider == CPU:
        return [CPU]
    # Full float32, as torch computes by default.
    return [(CUDA, {"device_id": str(device.index or 0), "use_tf32": "0"}), CPU]


def _remedy(device: torch.device) -> str:
    if device.type == "cuda":
        return "install onnxruntime-gpu instead of onnxruntime, with the CUDA and cuDNN that it wants"
    return "pip install 'whylight[onnx]', or onnxruntime-gpu for CUDA"
