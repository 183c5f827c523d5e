"""How the service follows work that goes on in a worker."""

from typing import Protocol

from protos.worker.v1 import worker_pb2


class Watch(Protocol):
    """Is told of the steps of a command while a worker carries it out."""

    def progress(self, progress: worker_pb2.Progress) -> None:
        """Take note of a step. Called on the event loop; must return at once."""
        ...
