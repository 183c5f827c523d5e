"""What a service also meets: clients that hang up, and requests that make no sense."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import grpc

from benchmarks.reliability.calls import error_reason
from benchmarks.reliability.load import CHANNEL_OPTIONS
from benchmarks.reliability.questions import Question
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.client import build_method, build_targets

_PAUSE = 0.2  # seconds between two disturbances
_LONGEST_PATIENCE = 0.05  # seconds until a client hangs up
# Besides what they are meant to get: there may be no room even for nonsense.
_ALWAYS_FINE = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


def bad_requests(model: str, image: bytes) -> list[tuple[api.ExplainRequest, grpc.StatusCode]]:
    """Requests that cannot be answered, with the status that each gets."""
    wrong = grpc.StatusCode.INVALID_ARGUMENT
    return [
        (api.ExplainRequest(model=model, image=b"no image"), wrong),
        (api.ExplainRequest(model=model, image=image[: len(image) // 2]), wrong),
        (api.ExplainRequest(model=model, image=image, targets=build_targets(["4096"], None)), wrong),
        (api.ExplainRequest(model=model, image=image, method=build_method("grad_cam", ["layer=none"])), wrong),
        (api.ExplainRequest(model="nobody", image=image), grpc.StatusCode.NOT_FOUND),
    ]


class Disturbance:
    """Two clients: one hangs up in the middle of each call, the other sends nonsense.

    Args:
        address: host:port of the service.
        questions: that the first one asks.
    """

    def __init__(self, address: str, questions: Sequence[Question]) -> None:
        self._address = address
        self._questions = questions
        self.counts: Counter[str] = Counter()
        """Cancelled calls, bad requests that were refused as they should be, and those that were not."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Disturbance"]:
        """Disturb for the length of a block."""
        async with grpc.aio.insecure_channel(self._address, CHANNEL_OPTIONS) as channel:
            stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]
            tasks = [asyncio.create_task(work) for work in (self._hang_up(stub), self._talk_nonsense(stub))]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _hang_up(self, stub: api_grpc.ExplanationServiceStub) -> None:
        explanations = [each.asked for each in self._questions if isinstance(each.asked, api.ExplainRequest)]
        chance = random.Random(0)  # noqa: S311 - no secret
        while True:
            request = _alone(chance.choice(explanations))
            if chance.random() < 0.5:
                call = stub.StreamExplain(api.StreamExplainRequest(request=request))
            else:
                call = stub.Explain(request)
            await asyncio.sleep(chance.uniform(0, _LONGEST_PATIENCE))
            call.cancel()
            self.counts["cancelled"] += 1
            await asyncio.sleep(_PAUSE)

    async def _talk_nonsense(self, stub: api_grpc.ExplanationServiceStub) -> None:
        first = self._questions[0].asked
        cases = bad_requests(first.model, first.image)
        while True:
            for request, expected in cases:
                try:
                    await stub.Explain(request, timeout=30)
                    self.counts["bad requests that were answered"] += 1
                except grpc.aio.AioRpcError as error:
                    fine = error.code() in (expected, *_ALWAYS_FINE) and error_reason(error)
                    self.counts["bad requests refused" if fine else "bad requests with another status"] += 1
                await asyncio.sleep(_PAUSE)


def _alone(request: api.ExplainRequest) -> api.ExplainRequest:
    """The same, without the cache: a kept answer is there before anybody can hang up."""
    made = api.ExplainRequest(no_cache=True)
    made.MergeFrom(request)
    return made
