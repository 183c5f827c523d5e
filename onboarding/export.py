"""Exports a model for ONNX Runtime: its graph is tried as a worker uses it before the manifest names it."""

import hashlib
import shutil
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from explainers import ExplainerError, GradCam, Network, TopK
from handlers.fast_path import tags, with_fast_path
from handlers.loading import LoadedModel, LoadError, load_model
from model_store.archive import build_archive
from model_store.errors import ModelStoreError
from model_store.manifest import load_manifest
from model_store.schema import Graph, ModelEntry
from onboarding.errors import OnboardingError
from onboarding.manifest_file import with_graph
from onboarding.remove import replace_text
from runtimes import FastPath, FastPathError
from runtimes.export import export

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Exported:
    """What was done.

    Attributes:
        graph: the file that was written.
        archive: that holds it.
        layer: path of the layer that the maps explain.
        any_number: whether one run makes CAM and Grad-CAM of any number of classes; else Grad-CAM of one.
        torch_seconds: of the prediction with Grad-CAM of one image by torch, once warm.
        onnx_seconds: the same by ONNX Runtime.
    """

    graph: Path
    archive: Path
    layer: str
    any_number: bool
    torch_seconds: float
    onnx_seconds: float


def export_model(name: str, manifest: Path, store: Path) -> Exported:
    """Export a model, check the graph, write `[models.onnx]` into its entry, and build its archive.

    A graph of an earlier export is replaced.

    Raises:
        OnboardingError: something is wrong; nothing was changed.
    """
    try:
        entry = _find(name, manifest)
        with tempfile.TemporaryDirectory(prefix="whylight-export-") as draft:
            return _export(entry, manifest, store, Path(draft))
    except (ModelStoreError, LoadError, ExplainerError, FastPathError) as error:
        raise OnboardingError(str(error)) from None
    except OSError as error:
        raise OnboardingError(f"{error.strerror or error}: {Path(error.filename or manifest).name}") from None


def _find(name: str, manifest: Path) -> ModelEntry:
    for entry in load_manifest(manifest).models:
        if entry.name == name and entry.source.kind == "onnx":
            raise OnboardingError(f"{name} is an ONNX file: ONNX Runtime computes it already")
        if entry.name == name:
            return entry.model_copy(update={"onnx": None})
    raise OnboardingError(f"there is no model {name!r} in {manifest.name}")


def _export(entry: ModelEntry, manifest: Path, store: Path, draft: Path) -> Exported:
    root = manifest.parent.resolve()
    plain = _load(entry, root, draft / "plain")
    graph = draft / f"{entry.name}.onnx"
    export(plain.network, graph, tags(plain.document))
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    tried = _load(entry.model_copy(update={"onnx": Graph(graph=str(graph), sha256=digest)}), root, draft / "tried")
    fast = tried.fast
    assert fast is not None  # noqa: S101  # the entry names a graph
    name = f"graphs/{entry.name}.onnx"
    text = with_graph(manifest, entry.name, {"graph": name, "sha256": digest})
    (root / name).parent.mkdir(exist_ok=True)
    shutil.move(graph, root / name)
    replace_text(manifest, text)
    archive = build_archive(_entry(manifest, entry.name), root, store)
    network = tried.network
    seconds = _seconds(network, network), _seconds(network, fast)
    return Exported(root / name, archive, network.target_layer.path, fast.kind == "cam", *seconds)


def _load(entry: ModelEntry, root: Path, folder: Path) -> LoadedModel:
    """As a worker loads it."""
    archive = build_archive(entry, root, folder / "store")
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "model")
    return with_fast_path(load_model(folder / "model", CPU), folder / "model")


def _entry(manifest: Path, name: str) -> ModelEntry:
    return next(entry for entry in load_manifest(manifest).models if entry.name == name)


def _seconds(network: Network, by: Network | FastPath) -> float:
    """Shortest of a few runs."""
    method = GradCam().resolve(network)
    image = torch.rand(1, 3, *network.input_size)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        if isinstance(by, Network):
            method.explain(by, image, [TopK()])
        else:
            by.explain(method, image, [TopK()])
        times.append(time.perf_counter() - started)
    return min(times)
