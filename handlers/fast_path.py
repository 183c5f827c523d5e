"""The fast path of a loaded model: its exported graph, checked before it answers."""

from dataclasses import replace
from pathlib import Path

from explainers import ExplainerError
from handlers.loading import LoadedModel, LoadError, verify
from model_store.document import GRAPH_FILE, ModelDocument
from runtimes import FastPathError, load_fast_path


class RuntimeRefusedError(LoadError):
    """The graph, or the library that runs it, is refused."""


def with_fast_path(model: LoadedModel, folder: Path, threads: int | None = None) -> LoadedModel:
    """The model with its fast path, where the archive in `folder` has one.

    Args:
        model: loaded from there.
        folder: of the unpacked archive.
        threads: of one run on the CPU; None: as many as torch uses now.

    Raises:
        WeightsError, DigestError: the graph is missing, or not the one that the archive was built with.
        RuntimeRefusedError: ONNX Runtime is missing, does not run on the model's device, or computes something else.
    """
    document = model.document
    if document.graph_sha256 is None:
        return model
    verify(folder / GRAPH_FILE, document.graph_sha256, document.name, "graph")
    try:
        fast = load_fast_path(folder / GRAPH_FILE, model.network, tags(document), threads)
    except (FastPathError, ExplainerError) as error:
        raise RuntimeRefusedError(f"{document.name}: {error}") from error
    return replace(model, fast=fast)


def tags(document: ModelDocument) -> dict[str, str]:
    """What a graph depends on, as the exported file says it of itself."""
    return {"whylight.weights": document.sha256, "whylight.preprocessing": document.preprocessing_digest}
