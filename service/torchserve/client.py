"""The one way from the service to its workers: bytes in, bytes out, and how the workers are."""

import asyncio
import json
import logging
from http import HTTPStatus

from service.errors import InternalError, NoRoomError, OutOfMemoryError, ServiceError, WorkerUnavailableError
from service.torchserve.management import ModelWorkers, parse_names, parse_workers
from service.torchserve.transport import INFERENCE, MANAGEMENT, EndpointProvider, Reply, Transport

__all__ = ["ModelWorkers", "WorkerClient"]

log = logging.getLogger(__name__)

_STATE_TIMEOUT = 2.0  # seconds for one look at the workers
_SCALE_TIMEOUT = 30.0  # seconds for TorchServe to end a model's workers
_OUT_OF_RESOURCES = 507


class WorkerClient:
    """Talks to TorchServe.

    Args:
        endpoint_provider: names the TorchServe to use now; asked before each request, so that a restarted one is found.
    """

    def __init__(self, endpoint_provider: EndpointProvider) -> None:
        self._inference = Transport(INFERENCE, endpoint_provider)
        self._management = Transport(MANAGEMENT, endpoint_provider)

    async def send(self, model: str, body: bytes, timeout: float) -> bytes:
        """Give one request to a model's workers. Cancelling it frees the connection; the worker's work runs on.

        Args:
            model: name under which the model is served.
            body: what the handler gets.
            timeout: seconds to wait for the answer.

        Raises:
            DeadlineError: no answer in time.
            NoRoomError: TorchServe's queue is full.
            OutOfMemoryError: the worker ran out of memory.
            WorkerUnavailableError: the model is not loaded, its worker died, or TorchServe cannot be reached.
            InternalError: anything else.
        """
        reply = await self._inference.request("POST", ("predictions", model), timeout, body=body)
        if reply.status == HTTPStatus.OK:
            return reply.body
        raise _failure(model, reply)

    async def worker_states(self) -> dict[str, ModelWorkers]:
        """How the workers of every registration are, by name. One whose archive could not be read is missing.

        Raises:
            WorkerUnavailableError, DeadlineError: TorchServe does not answer.
            InternalError: it answers nonsense.
        """
        names, token = parse_names(await self._ask("models"))
        while token is not None:  # TorchServe names a hundred at once
            more, token = parse_names(await self._ask("models", next_page_token=token))
            names += more
        states = await asyncio.gather(*(self._workers(name) for name in names))
        return {state.name: state for state in states}

    async def replace_workers(self, model: str, count: int) -> None:
        """Give a model fresh workers: what its present ones do is lost, and TorchServe forgets how often they died.

        Raises:
            WorkerUnavailableError, DeadlineError: TorchServe does not answer.
        """
        for workers, wait in ((0, "true"), (count, "false")):
            query = {"min_worker": str(workers), "max_worker": str(workers), "synchronous": wait}
            await self._management.request("PUT", ("models", model), _SCALE_TIMEOUT, query=query)

    async def close(self) -> None:
        """Close every connection."""
        await self._inference.close()
        await self._management.close()

    async def _workers(self, name: str) -> ModelWorkers:
        return parse_workers(name, await self._ask("models", name, "all"))

    async def _ask(self, *path: str, **query: str) -> Reply:
        return await self._management.request("GET", path, _STATE_TIMEOUT, query=query or None)


def _failure(model: str, reply: Reply) -> ServiceError:
    """The error that an unsuccessful answer means. TorchServe's text goes to the log only."""
    kind, text = _explanation(reply)
    log.warning("TorchServe answered for %s: status %d, %s: %s", model, reply.status, kind, text)
    # A worker that was killed reports as 413, one that died as 500.
    if reply.status == HTTPStatus.NOT_FOUND or text == "Worker died.":
        return WorkerUnavailableError("the model's worker is not there; it is being started again")
    if reply.status == _OUT_OF_RESOURCES:
        return OutOfMemoryError("the model's worker has no memory for this request")
    # The same status also stands for an exception in the handler, with another type.
    if reply.status == HTTPStatus.SERVICE_UNAVAILABLE and kind == "ServiceUnavailableException":
        return NoRoomError("too many requests wait for this model's workers")
    return InternalError("the model's worker failed")


def _explanation(reply: Reply) -> tuple[str, str]:
    """Type and message of TorchServe's error. Neither holds anything of the request's body."""
    try:
        content = json.loads(reply.body)
        return str(content["type"]), str(content["message"])
    except (ValueError, KeyError, TypeError):
        return "unknown", f"{len(reply.body)} bytes"
