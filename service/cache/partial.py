"""Answers that are not whole."""

from protos.worker.v1 import worker_pb2

# The fields that say so, of ImageResult and of Explanation.
_OF_RESULT, _OF_EXPLANATION = 12, 6


def is_partial(result: worker_pb2.ImageResult) -> bool:
    """Whether the deadline ended a method before its map was done."""
    parts = [(result, _OF_RESULT), *((each, _OF_EXPLANATION) for each in result.explanations)]
    return any(field.number == number for part, number in parts for field, _ in part.ListFields())
