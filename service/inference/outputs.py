"""The one table of the output tensors: what each is called, and how it is made from an answer of explain.v1."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from service.converters.saliency import map_values
from service.inference.tensors import Tensor

Answer: TypeAlias = api.PredictResponse | api.ExplainResponse
QUALITY = "quality."  # before the name of a metric


@dataclass(frozen=True)
class Output:
    """A kind of output, of shape (images, classes, ...).

    The classes are those that were predicted, or those that were explained: equally many of each image.

    Attributes:
        datatype: of its elements.
        elements: makes those of one class, from its ClassScore or its Explanation.
        sizes: of what there is for each class; -1 where it depends on the request.
        explains: whether only an explanation has it.
        sent: whether whoever names no outputs gets it.
        exact: whether only answers of full precision have it.
    """

    datatype: str
    elements: Callable[[Any], Sequence[Any]]
    sizes: tuple[int, ...] = ()
    explains: bool = False
    sent: bool = True
    exact: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """As ModelMetadata tells it."""
        return (-1, -1, *self.sizes)

    def tensor(self, answers: Sequence[Answer]) -> Tensor:
        """The tensor of the answers about some images, which have the same model and the same request otherwise.

        Raises:
            ValueError: they have not equally many classes, or maps that are not equally large.
        """
        classes: list[Sequence[Any]] = [
            getattr(answer, "explanations" if self.explains else "predictions") for answer in answers
        ]
        sizes = tuple(classes[0][0].map.values.shape) if -1 in self.sizes and classes[0] else self.sizes
        values = list(chain.from_iterable(map(self.elements, chain.from_iterable(classes))))
        return Tensor(self.datatype, (len(answers), len(classes[0]), *sizes), values)


def _matrix(explanation: types_pb2.Explanation) -> Sequence[float]:
    affine = explanation.map.map_to_image
    return affine.xx, affine.xy, affine.x0, affine.yx, affine.yy, affine.y0


OUTPUTS: Mapping[str, Output] = {
    "probabilities": Output("FP32", lambda score: [score.probability]),
    "logits": Output("FP32", lambda score: [score.logit], exact=True),
    "classes": Output("INT64", lambda score: [score.index]),
    "labels": Output("BYTES", lambda score: [score.label.encode()]),
    "saliency": Output("FP32", lambda each: map_values(each.map), (-1, -1), explains=True),
    "targets": Output("INT64", lambda each: [each.target.index], explains=True),
    "map_to_image": Output("FP64", _matrix, (2, 3), explains=True),
    "map_png": Output("BYTES", lambda each: [each.map_png], explains=True, sent=False),
    "overlay_png": Output("BYTES", lambda each: [each.overlay_png], explains=True, sent=False),
}


def output(name: str) -> Output | None:
    """The output of that name; that of a metric is "quality." and its name. None where there can be none."""
    if name.startswith(QUALITY):
        return _figure(name.removeprefix(QUALITY))
    return OUTPUTS.get(name)


def _figure(metric: str) -> Output:
    """The figure of each explained class, NaN where the metric is not defined."""

    def elements(explanation: types_pb2.Explanation) -> Sequence[float]:
        found = (each for each in explanation.quality if each.metric == metric and each.HasField("value"))
        return [next((each.value for each in found), math.nan)]

    return Output("FP64", elements, explains=True, sent=False)
