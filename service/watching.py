"""How the service follows work that goes on in a worker."""

from typing import Protocol, runtime_checkable

from protos.worker.v1 import worker_pb2


class Watch(Protocol):
    """Is told of the steps of a command while a worker carries it out."""

    def progress(self, progress: worker_pb2.Progress) -> None:
        """Take note of a step. Called on the event loop; must return at once."""
        ...


@runtime_checkable
class Particular(Watch, Protocol):
    """A watch that says what it wants to be told of.

    Attributes:
        maps: whether it wants to see the maps so far, where the method can show them.
        interval: shortest time between two steps, in seconds; the first and the last are always told.
    """

    maps: bool
    interval: float
