"""The line to the service over a real socket: what is told, what is left out, and how it ends."""

import socket
import time
from pathlib import Path

import pytest

from handlers import line as line_module
from handlers.line import Line
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from tests.handlers.service_end import TOKEN, ServiceEnd


def step(number: int, of: int = 9, size: int = 0) -> worker_pb2.Progress:
    """A step, with a map of `size` bytes."""
    told = worker_pb2.Progress(request_id="r", step=number, steps=of)
    if size:
        told.maps.add(map=types_pb2.SaliencyMap(values=types_pb2.Tensor(data=b"m" * size)))
    return told


def opened(following: worker_pb2.Following) -> Line:
    line = Line(following)
    line.open()
    return line


def test_the_first_and_the_last_step_are_told_however_fast_they_come() -> None:
    """Those in between are too soon; the token comes before everything."""
    with ServiceEnd() as service:
        line = opened(service.following(interval={"seconds": 60}))
        for number in range(1, 10):
            line.tell(step(number))
        assert not line.hung_up
        line.close()
        service.wait()
        assert service.token == TOKEN
        assert [each.step for each in service.steps] == [1, 9]


def test_steps_are_told_at_most_twenty_times_a_second() -> None:
    """Whatever interval is asked for."""
    with ServiceEnd() as service:
        line = opened(service.following())
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 0.3:
            number += 1
            line.tell(step(number, of=10**6))
        line.close()
        service.wait()
        assert 2 <= len(service.steps) <= 7


def test_nothing_is_told_where_nobody_asks() -> None:
    """The connection is there all the same: it says whether somebody waits."""
    with ServiceEnd() as service:
        line = opened(service.following(progress=False, maps=False))
        assert not line.due()
        assert not line.due(maps=True)
        line.tell(step(1))
        line.tell(step(9))
        assert not line.hung_up
        line.close()
        service.wait()
        assert (service.token, service.steps) == (TOKEN, [])


def test_a_service_that_hangs_up_is_noticed_at_the_next_look() -> None:
    """And it stays so."""
    with ServiceEnd(hangs_up=lambda _: True) as service:
        line = opened(service.following())
        assert not line.hung_up
        line.tell(step(1))
        service.wait()
        assert line.hung_up
        assert line.hung_up
        line.tell(step(9))
        assert len(service.steps) == 1


def test_a_service_that_reads_nothing_makes_no_work_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps for which there is no room are left out, but never in the middle of a message."""
    monkeypatch.setattr(line_module, "SHORTEST_INTERVAL", 0.0)
    with socket.socket(socket.AF_UNIX) as listener:
        with ServiceEnd() as unused:
            path = unused.path + "2"
            listener.bind(path)
            listener.listen()
            line = opened(worker_pb2.Following(socket=path, token=TOKEN, progress=True))
            connection, _ = listener.accept()
            began = time.monotonic()
            for number in range(1, 9):
                line.tell(step(number, size=200_000))
            assert time.monotonic() - began < 0.15
            line.tell(step(9, size=200_000))
            line.close()
        with connection, connection.makefile("rb") as stream:
            assert stream.read(len(TOKEN)).decode() == TOKEN
            length = int.from_bytes(stream.read(4), "big")
            assert worker_pb2.Progress.FromString(stream.read(length)).step == 1


@pytest.mark.parametrize(
    "path", ["", "/nowhere/progress.sock", "x" * 300, "a\0b"], ids=["none", "elsewhere", "too long", "no path"]
)
def test_where_there_is_no_line_work_goes_on_without(path: str, tmp_path: Path) -> None:
    """As with a service on another machine: nothing is told, and only the deadline ends the work."""
    line = opened(worker_pb2.Following(socket=path, token=TOKEN, progress=True))
    line.tell(step(1))
    assert not line.hung_up
    assert not line.due()
    line.close()
