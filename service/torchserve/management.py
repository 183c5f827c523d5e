"""What TorchServe's management interface says about models and workers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from service.errors import InternalError, WorkerUnavailableError
from service.torchserve.transport import Reply


@dataclass(frozen=True)
class ModelWorkers:
    """The workers of one model.

    Attributes:
        name: of the model.
        versions: the versions that are loaded.
        ready: workers that take requests now.
        total: workers that there should be.
    """

    name: str
    versions: tuple[str, ...]
    ready: int
    total: int

    @property
    def all_ready(self) -> bool:
        """Whether every worker takes requests."""
        return self.total > 0 and self.ready >= self.total

    @property
    def any_ready(self) -> bool:
        """Whether a request would find a worker."""
        return self.ready > 0


def parse_names(reply: Reply) -> tuple[list[str], str | None]:
    """The names in an answer to GET /models, and the token with which to ask for more, where there are more.

    Raises:
        InternalError: it is no such answer.
    """
    with _understandable():
        content = _content(reply)
        token = content.get("nextPageToken")
        return [model["modelName"] for model in content["models"]], None if token is None else str(token)


def parse_workers(name: str, reply: Reply) -> ModelWorkers:
    """The workers in an answer to GET /models/{name}/all.

    Raises:
        WorkerUnavailableError: the model is not loaded.
        InternalError: it is no such answer.
    """
    with _understandable():
        versions = _content(reply)
        return ModelWorkers(
            name=name,
            versions=tuple(version["modelVersion"] for version in versions),
            ready=sum(worker["status"] == "READY" for version in versions for worker in version["workers"]),
            # A worker that waits for its restart may be missing in the list.
            total=sum(max(version["minWorkers"], len(version["workers"])) for version in versions),
        )


def _content(reply: Reply) -> Any:
    if reply.status == HTTPStatus.NOT_FOUND:
        raise WorkerUnavailableError("the model is not loaded")
    if reply.status != HTTPStatus.OK:
        raise ValueError(reply.status)
    return json.loads(reply.body)


@contextmanager
def _understandable() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InternalError("the state of the model's workers cannot be understood") from error
