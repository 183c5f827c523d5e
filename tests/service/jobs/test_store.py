"""What the store keeps, through crashes, full disks and damage."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.errors import JobsFullError, StorageFullError
from service.jobs.database import UnusableDatabaseError
from service.jobs.job import Ending, Job, State
from service.jobs.store import JobStore

BODY = b"Jane Doe's image " * 400
DONE = Ending(State.SUCCEEDED, "OK", b"the answer")


def job(name: str, client: str = "a", request_id: str = "", created: float = 0.0, ttl: float = 100.0) -> Job:
    return Job(name, client, request_id, b"digest", "tiny", "grad_cam", 10.0, ttl, created, created + ttl)


@asynccontextmanager
async def opened(path: Path | None = None, per_client: int = 100, most_bytes: int = 2**20) -> AsyncIterator[JobStore]:
    store = JobStore(path, per_client, most_bytes)
    try:
        yield store
    finally:
        store.close()


def on_disk(path: Path) -> bytes:
    """Everything in the database's files."""
    return b"".join(each.read_bytes() for each in path.parent.iterdir())


async def test_a_job_comes_back_as_it_was_kept() -> None:
    """Also its result, with the times of its way; by name and by the client's id."""
    async with opened() as store:
        await store.add(job("1", request_id="mine"), BODY)
        assert await store.get("a", "1") == await store.find("a", "mine") == job("1", request_id="mine")
        claimed = await store.claim(5.0)
        assert claimed is not None
        assert claimed[1] == BODY
        assert (claimed[0].state, claimed[0].attempts, claimed[0].started) == (State.RUNNING, 1, 5.0)
        assert await store.claim(5.0) is None
        ended = await store.finish("1", DONE, 7.0)
        assert ended == await store.get("a", "1")
        assert ended is not None
        assert (ended.state, ended.ended, ended.expires, ended.result) == (State.SUCCEEDED, 7.0, 107.0, b"the answer")


async def test_a_job_ends_once() -> None:
    """A second end, and the end of what is not there, change nothing."""
    async with opened() as store:
        await store.add(job("1"), BODY)
        assert await store.finish("1", DONE, 1.0) is not None
        assert await store.finish("1", Ending(State.CANCELLED, "CANCELLED", b""), 2.0) is None
        assert await store.finish("2", DONE, 1.0) is None
        kept = await store.get("a", "1")
        assert kept is not None
        assert kept.state is State.SUCCEEDED


async def test_the_client_who_waited_longest_comes_first() -> None:
    """Jobs of one client keep their order, and many of them do not hold up another's."""
    async with opened() as store:
        for name, client in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")):
            await store.add(job(name, client), BODY)
        order = [claimed[0].name for now in range(1, 7) if (claimed := await store.claim(now)) is not None]
        assert order == ["a1", "b1", "c1", "a2", "a3"]


async def test_a_postponed_job_waits_for_its_time() -> None:
    """And its attempt counts only where it should."""
    async with opened() as store:
        await store.add(job("1"), BODY)
        await store.claim(0.0)
        await store.postpone("1", 10.0, counts=False)
        assert await store.claim(9.0) is None
        assert (await store.claim(10.0))[0].attempts == 1  # type: ignore[index]
        await store.postpone("1", 20.0, counts=True)
        assert (await store.claim(20.0))[0].attempts == 2  # type: ignore[index]


async def test_pages_go_back_in_time_and_end() -> None:
    """By number and by bytes; jobs that come in between shift nothing."""
    async with opened() as store:
        for number in range(5):
            await store.add(job(str(number)), BODY)
        await store.add(job("other", client="b"), BODY)
        first, before = await store.page("a", None, None, 2, 100)
        await store.add(job("new"), BODY)
        second, rest = await store.page("a", None, before, 2, 100)
        last, end = await store.page("a", None, rest, 2, 100)
        assert [each.name for each in (*first, *second, *last)] == ["4", "3", "2", "1", "0"]
        assert end is None
        for number in range(4):
            await store.finish(str(number), DONE, 1.0)
        assert [each.name for each in (await store.page("a", True, None, 9, 2 * len(DONE.result)))[0]] == ["3", "2"]
        assert [each.name for each in (await store.page("a", True, None, 9, 1))[0]] == ["3"]
        assert [each.name for each in (await store.page("a", False, None, 9, 100))[0]] == ["new", "4"]


async def test_there_is_a_bound_on_jobs_and_bytes() -> None:
    """Of a client, and of all together; the end of a job gives back the bytes of its request."""
    async with opened(per_client=2, most_bytes=len(BODY) + 5) as store:
        await store.check_room("a", len(BODY))
        await store.add(job("1"), BODY)
        with pytest.raises(JobsFullError, match="bytes"):
            await store.check_room("a", 6)
        await store.finish("1", DONE, 1.0)
        await store.add(job("2"), b"12345")
        with pytest.raises(JobsFullError, match="delete"):
            await store.check_room("a", 1)
        await store.check_room("b", 1)
        with pytest.raises(JobsFullError):
            await store.finish("2", Ending(State.SUCCEEDED, "OK", BODY), 1.0)
        assert (await store.get("a", "2")).state is State.QUEUED  # type: ignore[union-attr]
        assert (await store.counts())[State.SUCCEEDED] == 1


async def test_what_is_over_is_forgotten(tmp_path: Path) -> None:
    """Ended jobs are deleted; the others are only named."""
    async with opened(tmp_path / "jobs.sqlite") as store:
        for name in ("ended", "kept", "late"):
            await store.add(job(name), BODY)
        await store.finish("ended", Ending(State.SUCCEEDED, "OK", b"a secret answer"), 50.0)
        await store.finish("kept", DONE, 60.0)
        assert b"a secret answer" in on_disk(tmp_path / "jobs.sqlite")
        assert await store.forget_expired(150.0) == ["late"]
        assert await store.get("a", "ended") is None
        assert await store.get("a", "kept") is not None
        assert b"a secret answer" not in on_disk(tmp_path / "jobs.sqlite")


@pytest.mark.parametrize("how", ["end", "delete"])
async def test_nothing_of_an_image_stays_on_the_disk(how: str, tmp_path: Path) -> None:
    """Neither in the database nor in its log, as soon as the job has ended or is deleted."""
    path = tmp_path / "folder" / "jobs.sqlite"
    async with opened(path) as store:
        await store.add(job("1"), BODY)
        assert b"Jane Doe" in on_disk(path)
        if how == "end":
            await store.finish("1", DONE, 1.0)
        else:
            assert await store.delete("a", "1")
            assert not await store.delete("a", "1")
        assert b"Jane Doe" not in on_disk(path)
        modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        assert (modes, stat.S_IMODE(path.parent.stat().st_mode)) == ({0o600}, 0o700)


def run(script: str, path: Path) -> "subprocess.CompletedProcess[str]":
    """Run a program that has the names of this module and the database's path."""
    code = f"import asyncio, json, os, resource, signal, sys\nfrom tests.service.jobs.test_store import *\n{script}"
    return subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False, cwd=os.getcwd()
    )


async def test_a_killed_service_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """After kill -9 every accepted job is there once: ended ones with results, the running one waits again."""
    script = """
async def main():
    store = JobStore(Path(sys.argv[1]), 100, 2**20)
    for number in range(3):
        await store.add(job(str(number), request_id=f"r{number}"), BODY)
    await store.claim(1.0)
    await store.finish("0", DONE, 2.0)
    await store.claim(3.0)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    path = tmp_path / "jobs.sqlite"
    assert run(script, path).returncode == -signal.SIGKILL
    async with opened(path) as store:
        await store.requeue(counts=True)
        states = [(each.name, each.state, each.attempts) for each in (await store.page("a", None, None, 9, 2**20))[0]]
        assert states == [("2", State.QUEUED, 0), ("1", State.QUEUED, 1), ("0", State.SUCCEEDED, 1)]
        assert (await store.get("a", "0")).result == b"the answer"  # type: ignore[union-attr]
        assert (await store.claim(4.0))[1] == BODY  # type: ignore[index]


async def test_a_full_disk_refuses_and_the_store_goes_on(tmp_path: Path) -> None:
    """What was accepted before is there, what was refused is not, and with room again it accepts again."""
    script = """
async def main():
    store = JobStore(Path(sys.argv[1]), 100, 2**30)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    accepted, refused = [], []
    for number in range(8):
        try:
            await store.add(job(str(number)), b"x" * 65536)
            accepted.append(str(number))
        except ServiceError as error:
            refused.append(type(error).__name__)
    counted = sum((await store.counts()).values())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.add(job("after"), b"x" * 65536)
    print(json.dumps([accepted, refused, counted]))
from service.errors import ServiceError
asyncio.run(main())
"""
    done = run(script, tmp_path / "jobs.sqlite")
    assert done.returncode == 0, done.stderr
    accepted, refused, counted = json.loads(done.stdout)
    assert len(accepted) >= 1
    assert refused
    assert set(refused) <= {"StorageFullError", "StorageUnavailableError"}
    assert counted == len(accepted)
    async with opened(tmp_path / "jobs.sqlite") as store:
        names = {each.name for each in (await store.page("a", None, None, 99, 2**20))[0]}
        assert names == {*accepted, "after"}


async def test_sqlites_own_word_for_a_full_disk_is_known(tmp_path: Path) -> None:
    """The error of a disk without room is RESOURCE_EXHAUSTED, and names no file."""
    async with opened(tmp_path / "jobs.sqlite") as store:
        await store.database.do(lambda connection: connection.execute("PRAGMA max_page_count = 16"))
        with pytest.raises(StorageFullError, match="no room on the disk"):
            await store.add(job("1"), b"x" * 100_000)
        assert await store.get("a", "1") is None
        await store.add(job("2"), b"small")


def damaged(path: Path) -> None:
    """A database with garbage in its middle."""
    JobStore(path, 1, 1).close()
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 4] = os.urandom(4096 * 3)
    path.write_bytes(content)


def foreign(path: Path) -> None:
    """Another version's database."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"this is no database" * 100), "damaged"),
        (damaged, "damaged"),
        (foreign, "another version"),
        (lambda path: path.mkdir(), "cannot be opened"),
    ],
    ids=["garbage", "damaged", "another version", "a folder"],
)
def test_a_file_that_cannot_be_used_says_why(spoil: object, message: str, tmp_path: Path) -> None:
    """To the operator, without a path."""
    path = tmp_path / "jobs.sqlite"
    spoil(path)  # type: ignore[operator]
    with pytest.raises(UnusableDatabaseError, match=message) as caught:
        JobStore(path, 1, 1)
    assert str(tmp_path) not in str(caught.value)


async def test_only_one_service_has_the_file(tmp_path: Path) -> None:
    """Two would do every job twice."""
    path = tmp_path / "jobs.sqlite"
    async with opened(path):
        done = run("JobStore(Path(sys.argv[1]), 1, 1)", path)
        assert "another service uses the jobs database" in done.stderr
    JobStore(path, 1, 1).close()
