"""The service's end of the line to its workers, over real sockets."""

import asyncio
import stat
import tempfile
from pathlib import Path

import pytest

from handlers.line import Line
from protos.worker.v1 import worker_pb2
from service.progress.hub import Followed, Hub
from service.torchserve import rundir


class Steps:
    """A watch that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def progress(self, progress: worker_pb2.Progress) -> None:
        self.heard.append(progress.step)


class Particulars(Steps):
    """One that says what it wants."""

    maps = True
    interval = 2.5


def line_of(followed: Followed) -> Line:
    following = followed.following
    assert following is not None
    line = Line(following)
    line.open()
    return line


async def until_hung_up(line: Line) -> None:
    async with asyncio.timeout(5):
        while not line.hung_up:
            await asyncio.sleep(0.005)


async def test_steps_reach_their_own_watch() -> None:
    """Of two pieces of work at the same time; what was told before the worker hung up is waited for."""
    hub, watches = Hub(), [Steps(), Steps()]
    async with hub.running():
        followed = [hub.follow(watch) for watch in watches]
        lines = [line_of(each) for each in followed]
        await asyncio.sleep(0.05)
        for number, line in enumerate(lines):
            line.tell(worker_pb2.Progress(step=number + 1, steps=9))
            line.tell(worker_pb2.Progress(step=9, steps=9))
            line.close()
        for each in followed:
            await each.rest()
        assert [watch.heard for watch in watches] == [[1, 9], [2, 9]]


async def test_the_end_of_work_is_a_hang_up() -> None:
    """For a worker that is at it, and for one that begins only later; others are left alone."""
    hub = Hub()
    async with hub.running():
        ended, other = hub.follow(None), hub.follow(None)
        following = ended.following
        line, spared = line_of(ended), line_of(other)
        await asyncio.sleep(0.05)
        assert not line.hung_up
        ended.end()
        ended.end()
        await until_hung_up(line)
        late = Line(following)  # type: ignore[arg-type]
        late.open()
        await until_hung_up(late)
        assert not spared.hung_up


async def test_the_end_of_the_service_is_a_hang_up() -> None:
    """Nobody waits any more; the socket is gone with its directory."""
    hub = Hub()
    async with hub.running():
        path = Path(str(hub.socket))
        line = line_of(hub.follow(None))
        await asyncio.sleep(0.05)
        assert not line.hung_up
    await until_hung_up(line)
    assert not path.parent.exists()
    assert hub.follow(None).following is None


@pytest.mark.parametrize(
    "said",
    [b"x" * 32, b"\xff" * 32, b"short", b"{token}\xff\xff\xff\xff", b"{token}\x00\x00\x00\x02\xff\xff"],
    ids=["another token", "no token", "nothing more", "too long a message", "no message"],
)
async def test_nonsense_is_hung_up_on_and_harms_nobody(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever can enter the directory may say what they like."""
    hub, watch = Hub(), Steps()
    async with hub.running():
        followed = hub.follow(watch)
        reader, writer = await asyncio.open_unix_connection(hub.socket)
        writer.write(said.replace(b"{token}", followed.token.encode()))
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        line = line_of(hub.follow(None))
        await asyncio.sleep(0.05)
        assert not line.hung_up
    assert watch.heard == []
    assert "Traceback" not in caplog.text


async def test_only_the_owner_reaches_the_socket() -> None:
    """And its path is short enough for a socket's address."""
    hub = Hub()
    async with hub.running():
        path = Path(str(hub.socket))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert len(str(path)) <= 107


async def test_a_long_temporary_directory_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is put where its path is short."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    hub = Hub()
    async with hub.running():
        assert len(str(hub.socket)) <= 107
        line = line_of(hub.follow(None))
        assert not line.hung_up


async def test_where_nothing_can_listen_work_goes_on_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk costs the progress, and is logged without a path."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere/secret")

    monkeypatch.setattr(rundir, "create", full)
    hub = Hub()
    async with hub.running():
        followed = hub.follow(Steps())
        assert followed.following is None
        await followed.rest()
        followed.end()
    assert "No space left" in caplog.text
    assert "secret" not in caplog.text


def test_a_watch_may_say_what_it_wants() -> None:
    """Else there are steps without maps, as often as the worker likes; without a watch there are none."""
    hub = Hub()
    hub.socket = "/s"
    nobody, plain, particular = (hub.follow(watch).following for watch in (None, Steps(), Particulars()))
    assert nobody is not None
    assert plain is not None
    assert particular is not None
    assert (nobody.progress, nobody.maps) == (False, False)
    assert (plain.progress, plain.maps, plain.HasField("interval")) == (True, False, False)
    assert (particular.progress, particular.maps, particular.interval.ToMilliseconds()) == (True, True, 2500)
