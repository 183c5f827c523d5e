"""What is kept is bounded in bytes and in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache.store import OVERHEAD, Store
from service.metrics import Metrics

LIFETIME = 60.0


class Clock:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(metrics: Metrics, clock: Clock, capacity: int = 8 * (OVERHEAD + 100)) -> Store:
    return Store(capacity, LIFETIME, metrics.cache, clock)


def gauge(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"whylight_cache_{name}")


def test_a_value_is_there_with_its_age_until_its_time_is_over(clock: Clock) -> None:
    """Using it does not make it live longer."""
    store = make(Metrics(), clock)
    store.put(b"key", b"value")
    clock.now = LIFETIME - 1
    assert store.get(b"key") == (b"value", LIFETIME - 1)
    clock.now = LIFETIME
    assert store.get(b"key") is None
    assert store.get(b"other") is None


async def test_what_is_too_old_goes_though_nobody_asks(clock: Clock) -> None:
    """Tidying frees the bytes of what is too old and of nothing else."""
    metrics = Metrics()
    store = make(metrics, clock)
    store.put(b"old", b"value")
    clock.now = LIFETIME / 2
    store.put(b"new", b"value")
    clock.now = LIFETIME
    await store.tidy()
    assert gauge(metrics, "entries") == 1
    assert gauge(metrics, "bytes") == OVERHEAD + len(b"value")
    assert store.get(b"new")


def test_what_was_used_longest_ago_makes_room(clock: Clock) -> None:
    """A ninth entry drives out the one of the eight that nobody asked for."""
    metrics = Metrics()
    store = make(metrics, clock)
    for number in range(8):
        store.put(bytes([number]), bytes(100))
    for number in (0, 2, 3, 4, 5, 6, 7):
        assert store.get(bytes([number]))
    store.put(b"ninth", bytes(100))
    assert store.get(bytes([1])) is None
    assert store.get(bytes([0]))
    assert gauge(metrics, "entries") == 8
    assert gauge(metrics, "evictions_total") == 1


def test_what_takes_more_than_an_eighth_is_not_kept(clock: Clock) -> None:
    """It drives nothing out, and takes the place of nothing: what was under its key is gone."""
    store = make(Metrics(), clock)
    store.put(b"small", b"")
    store.put(b"key", b"")
    store.put(b"key", bytes(101))
    assert store.get(b"key") is None
    assert store.get(b"small")


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.integers(0, 600)), max_size=60))
def test_the_bytes_never_exceed_the_capacity(puts: list[tuple[bytes, int]]) -> None:
    """Whatever is put in, what is kept fits, and the gauges count what is there."""
    metrics, capacity = Metrics(), 4000
    store = make(metrics, Clock(), capacity)
    for key, length in puts:
        store.put(key, bytes(length))
        assert (gauge(metrics, "bytes") or 0) <= capacity
    there = [found[0] for key in {key for key, _ in puts} if (found := store.get(key))]
    assert gauge(metrics, "entries") == len(there)
    assert gauge(metrics, "bytes") == sum(len(value) + OVERHEAD for value in there)
