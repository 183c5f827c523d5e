"""Clients that ask without a pause, each over a connection of its own, until they are told to stop."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

import grpc

from benchmarks.reliability.calls import Call, End, make_call
from benchmarks.reliability.questions import Question
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc

# Clients come back quickly, so that a recovery is seen when it happens and not when a client looks again.
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]
_PAUSE_AFTER_ERROR = 0.1  # seconds


class Load:
    """Asks the questions in a random order and keeps account of every call.

    Args:
        address: host:port of the service.
        questions: what to ask.
        clients: how many ask at the same time.
        timeout: deadline of each call, in seconds.
    """

    def __init__(self, address: str, questions: Sequence[Question], clients: int, timeout: float) -> None:
        self._address = address
        self._questions = questions
        self._clients = clients
        self._timeout = timeout
        self._stopped = False
        self.calls: list[Call] = []
        """Every call that has ended, in that order."""

    async def once(self, rounds: int = 1) -> None:
        """Ask every question `rounds` times; a call that got no right answer is not repeated."""
        await self._all(lambda number: self._order(rounds)[number :: self._clients])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """Ask for the length of a block. At its end every call has ended."""
        self._stopped = False
        asking = asyncio.create_task(self._all(self._endless))
        try:
            yield self
        finally:
            self._stopped = True
            await asking

    def stop(self) -> None:
        """Ask nothing more; calls that are open go on to their end."""
        self._stopped = True

    async def _all(self, questions: Callable[[int], Iterable[Question]]) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client(questions(number)))

    async def _client(self, questions: Iterable[Question]) -> None:
        async with grpc.aio.insecure_channel(self._address, CHANNEL_OPTIONS) as channel:
            stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]
            for question in questions:
                if self._stopped:
                    return
                call = await make_call(stub, question, self._timeout)
                self.calls.append(call)
                if call.end is not End.RIGHT:
                    await asyncio.sleep(_PAUSE_AFTER_ERROR)

    def _order(self, rounds: int) -> list[Question]:
        shuffled = [question for _ in range(rounds) for question in self._questions]
        random.Random(0).shuffle(shuffled)  # noqa: S311 - an order, no secret
        return shuffled

    def _endless(self, number: int) -> Iterator[Question]:
        shuffled = list(self._questions)
        random.Random(number).shuffle(shuffled)  # noqa: S311
        return itertools.cycle(shuffled)
