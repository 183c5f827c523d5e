"""A connection whose calls find no room has a share of them refused unread."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service import throttling
from service.throttling import GENEROSITY, MEMORY, UNTROUBLED, Throttle
from tests.service.fakes import MODEL, Front, front, open_channel
from tests.service.test_front import IMAGE, details, explain, refused
from tests.service.test_lanes import waiting as queued


class World:
    """A throttle whose clock stands still, and whose draws are the least favourable one unless told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0
        self.drawn = 0.0
        self.throttle = Throttle(clock=lambda: self.now, draw=lambda: self.drawn)

    def call(self, *, room: bool, connection: str = "mine", procedure: str = "Explain") -> bool:
        """Whether a call was let in; once in, there was room for it or not."""
        if self.throttle.refuses(connection, procedure):
            return False
        if not room:
            self.throttle.no_room(connection, procedure)
        return True

    def flood(self, connection: str = "mine") -> None:
        """Call until a call is refused unread."""
        while self.call(room=False, connection=connection):
            pass


@pytest.fixture
def world() -> World:
    return World()


def test_a_handful_of_refusals_changes_nothing(world: World) -> None:
    """As many as it says, and then one call more is refused unread."""
    assert all(world.call(room=False) for _ in range(int(UNTROUBLED) + 1))
    assert not world.call(room=False)


def test_calls_that_find_room_are_never_refused(world: World) -> None:
    """However many there are."""
    assert all(world.call(room=True) for _ in range(500))


def test_other_connections_and_procedures_are_not_touched(world: World) -> None:
    """The flood is one connection's, of one procedure."""
    world.flood()
    assert world.call(room=True, connection="yours")
    assert world.call(room=True, procedure="Predict")
    assert not world.call(room=True)


def test_calls_that_wait_count_as_welcome(world: World) -> None:
    """Nobody knows yet whether they are refused."""
    assert not any(world.throttle.refuses("mine", "Explain") for _ in range(200))


def test_about_two_are_let_in_for_each_that_finds_room(world: World) -> None:
    """At ten times what there is room for, and all the room is used."""
    let_in = found = 0
    room = 0.0
    for number in range(20_000):
        world.now = number * MEMORY / 1000  # a thousand calls in the memory: the untroubled ones hardly count
        world.drawn = (number * 0.618034) % 1.0  # evenly spread
        room = min(5.0, room + 0.1)
        if world.call(room=room >= 1):
            let_in += 1
            if room >= 1:
                room, found = room - 1, found + 1
    assert found == pytest.approx(2000, rel=0.02)
    assert let_in / found == pytest.approx(GENEROSITY, rel=0.1)


def test_it_is_forgotten_soon(world: World) -> None:
    """After some seconds without calls the connection is as any other."""
    for _ in range(200):
        world.call(room=False)
    world.now += 6 * MEMORY
    assert world.call(room=False)


def test_no_more_is_remembered_than_it_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that was silent for longest is forgotten."""
    monkeypatch.setattr(throttling, "_MOST", 2)
    world.flood("first")
    world.call(room=True, connection="second")
    assert not world.call(room=True, connection="first")
    world.call(room=True, connection="third")
    world.call(room=True, connection="fourth")
    assert world.call(room=True, connection="first")


def reason(error: grpc.aio.AioRpcError) -> str:
    return details(error)["ErrorInfo"].reason  # type: ignore[attr-defined, no-any-return]


async def test_a_flood_through_the_front(caplog: pytest.LogCaptureFixture) -> None:
    """It is refused with a reason and a delay, counted, and touches neither predictions nor other connections."""
    async with front(queue_size=1, in_flight=1) as service, own_connection(service) as other:
        service.worker.gate.clear()
        waiting = [asyncio.ensure_future(service.stub.Explain(explain())) for _ in range(2)]
        await queued(service, "predict", 1)
        errors = [await refused(service.stub.Explain(explain())) for _ in range(60)]
        assert {reason(error) for error in errors} == {"QUEUE_FULL", "THROTTLED"}
        assert all(details(error)["RetryInfo"] for error in errors)
        throttled = service.metrics.registry.get_sample_value("whylight_throttled_total", {"rpc": "Explain"})
        assert throttled == sum(reason(error) == "THROTTLED" for error in errors)
        assert [record.levelname for record in caplog.records if "refused unread" in record.message] == ["WARNING"]
        for call in (service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE)), other.Explain(explain())):
            assert reason(await refused(call)) == "QUEUE_FULL"
        service.worker.gate.set()
        await asyncio.gather(*waiting)


@contextlib.asynccontextmanager
async def own_connection(service: Front) -> AsyncIterator[api_grpc.ExplanationServiceStub]:
    """A stub over another connection than the front's."""
    async with grpc.aio.insecure_channel(service.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield api_grpc.ExplanationServiceStub(channel)


async def test_a_call_without_a_request_is_told_so() -> None:
    """INVALID_ARGUMENT: what is no call of ours must not look like a fault of ours."""
    async with front() as service, open_channel(service.address, None) as channel:
        call = channel.stream_unary("/explain.v1.ExplanationService/Predict")(iter(()))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
