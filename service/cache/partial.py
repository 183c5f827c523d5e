"""Answers that are not whole."""

from protos.worker.v1 import worker_pb2

_PARTIAL = 12  # the field of ImageResult that says so


def is_partial(result: worker_pb2.ImageResult) -> bool:
    """Whether the deadline ended a method before its map was done."""
    return any(field.number == _PARTIAL for field, _ in result.ListFields())
