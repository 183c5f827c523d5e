"""Explains and measures in this process."""

import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation.backend import Batch, Outcome, Plan, Value, choose_targets, read_image, refuse_nothing
from evaluation.errors import EvaluationError, UsageError
from evaluation.items import Item
from evaluation.truth import View, boxes_of, mask_of, with_truth
from explainers import Activation, Classes, ExplainerError, ImageResult, InvalidParameterError, Method
from handlers.describe import device_text, versions_of
from handlers.loading import LoadedModel, LoadError, load_model
from handlers.memory import keep_for_reuse
from handlers.preprocess import geometry, to_input
from model_store.archive import build_archive
from model_store.errors import ModelStoreError
from model_store.manifest import load_manifest
from quality import Need, explain_by, of_results


def open_model(name: str, manifest: Path, device: str = "auto") -> "Local":
    """Load a model of a manifest, and have this process compute as a worker does.

    Raises:
        UsageError: there is no such manifest, model or device, or the model can't be loaded.
    """
    keep_for_reuse()
    try:
        models = {entry.name: entry for entry in load_manifest(manifest).models}
        if name not in models:
            raise UsageError(f"there is no model {name!r} in the manifest; there are: {', '.join(models)}")
        with tempfile.TemporaryDirectory(prefix="whylight-evaluate-") as folder:
            archive = build_archive(models[name], manifest.parent, Path(folder, "store"))
            with zipfile.ZipFile(archive) as file:
                file.extractall(Path(folder, "model"))
            return Local(load_model(Path(folder, "model"), _device(device)))
    except (ModelStoreError, LoadError) as error:
        raise UsageError(str(error)) from None


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda", 0) if available else torch.device("cpu")
    if name not in ("cpu", "cuda") or (name == "cuda" and not available):
        raise UsageError(f"there is no device {name!r} here; there are: auto, cpu{', cuda' if available else ''}")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


@dataclass(frozen=True)
class _Prepared:
    """What the methods share of a batch.

    Attributes:
        images: shape (batch, 3, height, width), in [0, 1].
        targets: the classes to explain.
        truth: boxes and masks of each row, and the other method's maps, as far as the metrics need them.
    """

    images: Tensor
    targets: tuple[tuple[int, ...], ...]
    truth: dict[str, Any]


class Local:
    """A model in this process."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.labels = model.document.labels

    def describe(self) -> dict[str, Any]:
        """As `Backend.describe`."""
        document = self._model.document
        return {
            "model": {
                "name": document.name,
                "version": document.version,
                "architecture": document.architecture,
                "weights_digest": f"sha256:{document.sha256}",
                "preprocessing_digest": document.preprocessing_digest,
            },
            "device": device_text(self._model.device),
            "library_versions": versions_of(self._model),
        }

    def resolve(self, plan: Plan, *, leave_out: bool) -> Plan:
        """As `Backend.resolve`."""
        methods = {}
        for key, method in plan.methods.items():
            try:
                methods[key] = method.resolve(self._model.network)
            except ExplainerError as error:
                if not leave_out or isinstance(error, InvalidParameterError):
                    raise UsageError(f"{key}: {error}") from None
        refuse_nothing(methods)
        for key, metric in plan.metrics.items():
            if Need.OTHER_MAPS in metric.needs and plan.compare_with is None:
                raise UsageError(f"{key} compares two maps: name the other method by --compare-with")
        try:
            other = plan.compare_with and plan.compare_with.resolve(self._model.network)
        except ExplainerError as error:
            raise UsageError(f"--compare-with: {error}") from None
        return replace(plan, methods=methods, compare_with=other)

    def prepare(self, items: Sequence[Item], plan: Plan) -> Batch:
        """As `Backend.prepare`."""
        readable: list[Item] = []
        pixels: list[Tensor] = []
        views: list[View] = []
        failures: dict[str, str] = {}
        for item in items:
            try:
                seen, view, tensor = self._read(item, plan)
            except EvaluationError as error:
                failures[item.id] = str(error)
                continue
            readable.append(seen)
            views.append(view)
            pixels.append(tensor)
        if not readable:
            return Batch((), failures)
        images = torch.stack(pixels)
        try:
            content = self._content(readable, images, views, plan)
        except ExplainerError as error:
            raise EvaluationError(f"--compare-with: {error}") from None
        return Batch(tuple(readable), failures, content)

    def explain(self, batch: Batch, method: str, plan: Plan) -> list[Outcome]:
        """As `Backend.explain`.

        Raises:
            EvaluationError: the method or a metric is not defined here after all.
        """
        content: _Prepared = batch.content
        chosen = plan.methods[method]
        try:
            started = time.perf_counter()
            results = chosen.explain(self._model.network, content.images, [Classes(row) for row in content.targets])
            explained = time.perf_counter()
            values = self._measure(results, content, chosen, plan)
        except ExplainerError as error:
            raise EvaluationError(f"{method}: {error}") from None
        count = len(batch.items)
        seconds = (explained - started) / count, (time.perf_counter() - explained) / count
        return _outcomes(results, values, self._model.network.activation, *seconds)

    def _read(self, item: Item, plan: Plan) -> tuple[Item, View, Tensor]:
        image = read_image(item)
        preprocessing = self._model.document.preprocessing
        size = (image.height, image.width)
        way = geometry(size, preprocessing)
        seen = with_truth(item, size, plan.needs)
        return seen, View(way.to_image(size), way.size, size), to_input(image, way, preprocessing)

    def _content(self, items: Sequence[Item], images: Tensor, views: Sequence[View], plan: Plan) -> _Prepared:
        network = self._model.network
        probabilities = network.activation.probabilities(network.predict(images).cpu().double()).tolist()
        targets = tuple(choose_targets(item, row, plan.target) for item, row in zip(items, probabilities, strict=True))
        rows = [(item, view, index) for item, view, row in zip(items, views, targets, strict=True) for index in row]
        truth: dict[str, Any] = {}
        if Need.BOXES in plan.needs:
            truth["boxes"] = tuple(boxes_of(item, index, view) for item, view, index in rows)
        if Need.MASKS in plan.needs:
            truth["masks"] = torch.stack([mask_of(item, index, view) for item, view, index in rows])
        if plan.compare_with is not None:
            truth["other_maps"] = explain_by(plan.compare_with)(network, images, targets)
        return _Prepared(images, targets, truth)

    def _measure(
        self, results: list[ImageResult], content: _Prepared, method: Method, plan: Plan
    ) -> dict[str, list[Value]]:
        evidence = of_results(
            self._model.network,
            content.images,
            results,
            explain=explain_by(method),
            model=self._model.module,
            **content.truth,
        )
        return {key: to_values(metric.values(evidence)) for key, metric in plan.metrics.items()}


def to_values(rows: Tensor) -> list[Value]:
    """Values as `Metric.values` gives them, for JSON: nothing where one is not defined."""
    return [row.tolist() if bool(row.isfinite().all()) else None for row in rows]


def _outcomes(
    results: Sequence[ImageResult],
    values: dict[str, list[Value]],
    activation: Activation,
    explain_seconds: float,
    measure_seconds: float,
) -> list[Outcome]:
    """The values of a batch, row by row, to those of its images."""
    outcomes, start = [], 0
    for result in results:
        targets = tuple(each.target for each in result.explanations)
        end = start + len(targets)
        probabilities = activation.probabilities(result.logits.double())
        outcomes.append(
            Outcome(
                targets=targets,
                predicted=int(result.logits.argmax()),
                probabilities=tuple(probabilities[list(targets)].tolist()),
                degenerate=tuple(each.degenerate for each in result.explanations),
                values={key: rows[start:end] for key, rows in values.items()},
                explain_seconds=explain_seconds,
                measure_seconds=measure_seconds,
            )
        )
        start = end
    return outcomes
