"""Whether an answer is the one that was expected.

Requests that come together are computed together. A batch of four and a batch of one take other paths through the
matrix multiplication, which add up in another order, and so the last bits of a float may differ; a method that follows
a gradient for several steps carries that on. Everything else has to be equal.
"""

from math import inf

import numpy as np

from benchmarks.reliability.questions import Response
from protos.explain.v1 import explanation_service_pb2 as api

# Largest difference of a probability or of a value of a map, both in [0, 1] (signed maps: [-1, 1]).
TOLERANCE = 1e-5


def difference(answer: Response, expected: Response) -> float:
    """The largest difference of any number, inf where anything else differs."""
    if type(answer) is not type(expected) or _identity(answer) != _identity(expected):
        return inf
    pairs = [
        (score.probability, other.probability)
        for score, other in zip(answer.predictions, expected.predictions, strict=True)
    ]
    largest = max((abs(one - other) for one, other in pairs), default=0.0)
    return max(largest, _maps_difference(answer, expected))


def _identity(answer: Response) -> tuple[object, ...]:
    """What must be equal: classes, targets, shapes, and how it was computed."""
    explanations = answer.explanations if isinstance(answer, api.ExplainResponse) else ()
    source = answer.provenance
    return (
        [score.index for score in answer.predictions],
        [(each.target.index, tuple(each.map.values.shape), each.map.values.data_type) for each in explanations],
        (source.model, source.model_version, source.weights_digest, source.target_layer),
        source.method.SerializeToString(deterministic=True),
        (answer.image.width, answer.image.height),
    )


def _maps_difference(answer: Response, expected: Response) -> float:
    if not isinstance(answer, api.ExplainResponse) or not isinstance(expected, api.ExplainResponse):
        return 0.0
    largest = 0.0
    for one, other in zip(answer.explanations, expected.explanations, strict=True):
        if one.map.values.data != other.map.values.data:
            gap = np.abs(_values(one.map.values.data) - _values(other.map.values.data))
            largest = max(largest, float(gap.max()) if np.isfinite(gap).all() else inf)
    return largest


def _values(data: bytes) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.frombuffer(data, "<f4")
