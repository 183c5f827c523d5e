"""Private directories: made, kept while in use, cleaned afterwards."""

import os
import stat
import time
from pathlib import Path

from service.torchserve import rundir


def age(path: Path) -> None:
    """Make a directory look an hour old."""
    old = time.time() - 3600
    os.utime(path, (old, old))


def test_only_the_owner_enters(tmp_path: Path) -> None:
    """The directory holds keys: mode 0700."""
    directory = rundir.create(tmp_path)
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    directory.remove()
    assert not directory.path.exists()
    directory.remove()


def test_leftovers_of_the_dead_are_removed(tmp_path: Path) -> None:
    """A directory whose lock nobody holds goes; one in use, a fresh one and a foreign one stay."""
    dead, used = rundir.create(tmp_path), rundir.create(tmp_path)
    os.close(dead.lock)
    other = tmp_path / "whylight-other000"
    other.mkdir()
    for path in (dead.path, used.path, other):
        age(path)
    fresh = rundir.create(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([used.path, other, fresh.path])
    used.remove()
    fresh.remove()


def test_a_fresh_directory_is_left_alone(tmp_path: Path) -> None:
    """Its maker may be about to take the lock."""
    young = rundir.create(tmp_path)
    os.close(young.lock)
    assert rundir.remove_stale(tmp_path) == []


def test_paths_stay_short_enough_for_sockets(tmp_path: Path) -> None:
    """Where the temporary directory's path is too long, /tmp is taken."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    directory = rundir.create(long)
    try:
        assert len(str(directory.path / "tmp" / ".ts.sock.99999")) <= 107
        assert directory.path.parent == Path("/tmp")  # noqa: S108
    finally:
        directory.remove()
