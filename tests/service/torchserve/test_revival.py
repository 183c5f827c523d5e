"""When the reviver steps in."""

import pytest

from service.errors import WorkerUnavailableError
from service.torchserve.management import ModelWorkers
from service.torchserve.revival import SILENCE, Reviver

PATIENCE = 100.0


class World:
    """A TorchServe with a clock, which remembers what was done to it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready: dict[str, int] | None = {"a": 1, "b": 1}
        self.replaced: list[tuple[str, int]] = []
        self.restarts: list[str] = []
        self.reviver = Reviver(self, {"a": 1, "b": 2}, self.restart, patience=PATIENCE, clock=lambda: self.now)

    async def worker_states(self) -> dict[str, ModelWorkers]:
        """Silence when `ready` is None."""
        if self.ready is None:
            raise WorkerUnavailableError("silence")
        return {name: ModelWorkers(name, ("1.0",), ready, 1) for name, ready in self.ready.items()}

    async def replace_workers(self, model: str, count: int) -> None:
        """Remember it."""
        self.replaced.append((model, count))

    async def restart(self, reason: str) -> None:
        """Remember it."""
        self.restarts.append(reason)

    async def look_at(self, *times: float) -> None:
        """Look at these times, in seconds."""
        for self.now in times:
            await self.reviver.look()


@pytest.fixture
def world() -> World:
    """Everything is well at first."""
    return World()


async def test_nothing_is_done_while_all_is_well(world: World) -> None:
    """Ready models are left alone for ever."""
    await world.look_at(*range(0, 1000, 50))
    assert (world.replaced, world.restarts) == ([], [])


@pytest.mark.parametrize("states", [{"a": 1, "b": 0}, {"a": 1}])
async def test_a_model_without_workers_gets_new_ones(world: World, states: dict[str, int]) -> None:
    """After the patience, and again after another; the healthy neighbour is not touched."""
    world.ready = states
    await world.look_at(50, 99)
    assert world.replaced == []
    await world.look_at(101, 150, 199, 202)
    assert world.replaced == [("b", 2), ("b", 2)]
    assert world.restarts == []


async def test_a_model_that_comes_back_in_time_is_left_alone(world: World) -> None:
    """The patience begins anew with every ready worker."""
    world.ready = {"a": 1, "b": 0}
    await world.look_at(90)
    world.ready = {"a": 1, "b": 1}
    await world.look_at(95)
    world.ready = {"a": 1, "b": 0}
    await world.look_at(150, 194)
    assert world.replaced == []


async def test_a_silent_java_is_restarted(world: World) -> None:
    """After the silence, and again after another."""
    world.ready = None
    await world.look_at(SILENCE - 1)
    assert world.restarts == []
    await world.look_at(SILENCE + 1, SILENCE + 5, 2 * SILENCE + 2)
    assert len(world.restarts) == 2
