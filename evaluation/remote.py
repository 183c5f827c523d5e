"""Explains by a running service, which computes what requests can ask for; boxes and masks are looked at here."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from torch import Tensor

from evaluation.backend import Batch, Outcome, Plan, Value, choose_targets, read_image, refuse_nothing
from evaluation.errors import EvaluationError, UsageError
from evaluation.items import Item
from evaluation.local import to_values
from evaluation.truth import View, boxes_of, mask_of, with_truth
from handlers.converters import from_method
from handlers.preprocess import Affine, Size
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import quality_pb2, types_pb2
from quality import Evidence, Metric, Need
from service.client import CallError, Client

TARGETS_AT_ONCE = 10
METRICS_AT_ONCE = 16
CLASSES_AT_ONCE = 100
HERE = frozenset({Need.BOXES, Need.MASKS})


@dataclass(frozen=True)
class _Sent:
    """One image of a batch.

    Attributes:
        data: the encoded image.
        size: (height, width) of the upright image.
        targets: the classes to explain.
    """

    data: bytes
    size: Size
    targets: tuple[int, ...]


class Remote:
    """A model of a running service."""

    def __init__(self, client: Client, name: str) -> None:
        """Ask the service what it knows of the model.

        Raises:
            UsageError: it does not answer, or has no such model.
        """
        self._client = client
        try:
            self._model = client.model(name)
            self._offered = {info.name for info in client.metrics()}
        except CallError as error:
            raise UsageError(str(error)) from None
        self.labels = tuple(self._model.labels)

    def describe(self) -> dict[str, Any]:
        """As `Backend.describe`."""
        model = self._model
        return {
            "model": {
                "name": model.name,
                "version": model.version,
                "architecture": model.architecture,
                "weights_digest": model.weights_digest,
                "preprocessing_digest": model.preprocessing_digest,
            },
            "device": model.device,
            "library_versions": dict(sorted(model.library_versions.items())),
        }

    def resolve(self, plan: Plan, *, leave_out: bool) -> Plan:
        """As `Backend.resolve`; the parameters that depend on the network stay with the service."""
        support = {each.method: each for each in self._model.methods}
        methods = {}
        for key, method in plan.methods.items():
            known = support.get(method.name)
            if known is not None and (known.supported or not leave_out):
                methods[key] = method  # with its parameters it may work where its defaults don't
            elif not leave_out:
                raise UsageError(f"the service knows no method {method.name!r}")
        refuse_nothing(methods)
        if plan.compare_with is not None and plan.compare_with.name not in support:
            raise UsageError(f"the service knows no method {plan.compare_with.name!r}")
        self._refuse_metrics(plan)
        return replace(plan, methods=methods)

    def _refuse_metrics(self, plan: Plan) -> None:
        for key, metric in plan.metrics.items():
            if not metric.needs <= HERE and metric.name not in self._offered:
                raise UsageError(f"{key} needs the network itself: leave --server out, or the metric")
            if Need.OTHER_MAPS in metric.needs and plan.compare_with is None:
                raise UsageError(f"{key} compares two maps: name the other method by --compare-with")
        if len(_asked(plan)) > METRICS_AT_ONCE:
            raise UsageError(f"a service computes at most {METRICS_AT_ONCE} metrics at once: name fewer by --metrics")

    def prepare(self, items: Sequence[Item], plan: Plan) -> Batch:
        """As `Backend.prepare`.

        Raises:
            EvaluationError: the service does not answer any more.
        """
        readable: list[Item] = []
        sent: list[_Sent] = []
        failures: dict[str, str] = {}
        with ThreadPoolExecutor(len(items)) as threads:
            for item, begun in [(item, threads.submit(self._begin, item, plan)) for item in items]:
                try:
                    seen, one = begun.result()
                except CallError as error:
                    if error.code != "INVALID_ARGUMENT":
                        raise EvaluationError(str(error)) from None
                    failures[item.id] = str(error)
                except EvaluationError as error:
                    failures[item.id] = str(error)
                else:
                    readable.append(seen)
                    sent.append(one)
        return Batch(tuple(readable), failures, tuple(sent))

    def _begin(self, item: Item, plan: Plan) -> tuple[Item, _Sent]:
        image = read_image(item)
        size = (image.height, image.width)
        seen = with_truth(item, size, plan.needs)
        if isinstance(item.image, Path):
            data = item.image.read_bytes()
        else:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            data = buffer.getvalue()
        count = min(CLASSES_AT_ONCE, len(self.labels))
        answer = self._client.predict(api.PredictRequest(model=self._model.name, image=data, top_k=count))
        probabilities = [-1.0] * len(self.labels)
        for score in answer.predictions:
            probabilities[score.index] = score.probability
        return seen, _Sent(data, size, choose_targets(item, probabilities, plan.target))

    def explain(self, batch: Batch, method: str, plan: Plan) -> list[Outcome]:
        """As `Backend.explain`; seconds are those that the service reports.

        Raises:
            EvaluationError: the service refuses, or does not answer any more.
        """
        if not batch.items:
            return []
        with ThreadPoolExecutor(len(batch.items)) as threads:
            answers = [
                threads.submit(self._ask, sent, item, method, plan)
                for item, sent in zip(batch.items, batch.content, strict=True)
            ]
            try:
                return [answer.result() for answer in answers]
            except CallError as error:
                raise EvaluationError(f"{method}: {error}") from None

    def _ask(self, sent: _Sent, item: Item, method: str, plan: Plan) -> Outcome:
        """As many requests as the targets of an image need."""
        parts = []
        for start in range(0, len(sent.targets), TARGETS_AT_ONCE):
            targets = sent.targets[start : start + TARGETS_AT_ONCE]
            answer = self._client.explain(self._request(sent.data, targets, method, plan))
            parts.append(self._outcome(answer, replace(sent, targets=targets), item, plan))
        return _joined(parts)

    def _request(self, data: bytes, targets: tuple[int, ...], method: str, plan: Plan) -> api.ExplainRequest:
        references = [api.ClassReference(index=index) for index in targets]
        other = from_method(plan.compare_with) if plan.compare_with else None
        return api.ExplainRequest(
            model=self._model.name,
            image=data,
            targets=api.Targets(classes=api.ClassList(classes=references)),
            method=from_method(plan.methods[method]),
            output=api.OutputOptions(resolution=types_pb2.MAP_RESOLUTION_NATIVE),
            top_k=1,
            quality=quality_pb2.QualityOptions(
                metrics=[_choice(metric) for metric in _asked(plan).values()], compare_with=other
            ),
            no_cache=True,  # what it costs is measured, too
        )

    def _outcome(self, answer: api.ExplainResponse, sent: _Sent, item: Item, plan: Plan) -> Outcome:
        explanations = answer.explanations
        values: dict[str, Sequence[Value]] = {}
        for position, key in enumerate(_asked(plan)):
            figures = [each.quality[position] for each in explanations]
            values[key] = [figure.value if figure.HasField("value") else None for figure in figures]
        values.update(self._measure([each.map for each in explanations], sent, item, plan))
        return Outcome(
            targets=sent.targets,
            predicted=answer.predictions[0].index,
            probabilities=tuple(each.target.probability for each in explanations),
            degenerate=tuple(each.map.degenerate for each in explanations),
            values={key: values[key] for key in plan.metrics},
            explain_seconds=_seconds(answer.timings.compute),
            measure_seconds=_seconds(answer.timings.quality),
        )

    def _measure(
        self, maps: Sequence[types_pb2.SaliencyMap], sent: _Sent, item: Item, plan: Plan
    ) -> dict[str, list[Value]]:
        """What can be computed of the map alone, with boxes and masks."""
        chosen = {key: metric for key, metric in plan.metrics.items() if metric.needs <= HERE}
        if not chosen:
            return {}
        size = (self._model.input_height, self._model.input_width)
        view = View(_to_image(maps[0], size), size, sent.size)
        evidence = Evidence(
            torch.zeros(1, 3, *size),  # only their size counts
            (sent.targets,),
            torch.stack([_tensor(each.values) for each in maps]),
            boxes=tuple(boxes_of(item, index, view) for index in sent.targets),
            masks=torch.stack([mask_of(item, index, view) for index in sent.targets]),
        )
        return {key: to_values(metric.values(evidence)) for key, metric in chosen.items()}


def _asked(plan: Plan) -> dict[str, Metric]:
    """The metrics that the service computes."""
    return {key: metric for key, metric in plan.metrics.items() if not metric.needs <= HERE}


def _choice(metric: Metric) -> quality_pb2.MetricChoice:
    parameters = Struct()
    parameters.update({name: value for name, value in asdict(metric).items() if value is not None})
    return quality_pb2.MetricChoice(name=metric.name, parameters=parameters)


def _tensor(values: types_pb2.Tensor) -> Tensor:
    return torch.from_numpy(np.frombuffer(values.data, "<f4").reshape(tuple(values.shape)).copy())


def _to_image(saliency: types_pb2.SaliencyMap, size: Size) -> Affine:
    """From pixels of the network's input to those of the image: the map's way, at the input's scale."""
    height, width = saliency.values.shape
    way = saliency.map_to_image
    return Affine(way.xx * width / size[1], way.x0, way.yy * height / size[0], way.y0)


def _seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9


def _joined(parts: Sequence[Outcome]) -> Outcome:
    """The answers for one image as one."""
    first = parts[0]
    return Outcome(
        targets=tuple(index for part in parts for index in part.targets),
        predicted=first.predicted,
        probabilities=tuple(value for part in parts for value in part.probabilities),
        degenerate=tuple(flag for part in parts for flag in part.degenerate),
        values={key: [value for part in parts for value in part.values[key]] for key in first.values},
        explain_seconds=sum(part.explain_seconds for part in parts),
        measure_seconds=sum(part.measure_seconds for part in parts),
    )
