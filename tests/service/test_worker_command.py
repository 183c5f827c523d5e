"""`whylight worker`: a TorchServe that a service elsewhere finds, also after it was started again."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from service import worker_command
from service.settings import Settings
from service.torchserve.endpoint import Endpoint
from service.worker_command import INFERENCE, KEYS, MANAGEMENT, Doorplate, running_worker

LINKS = (INFERENCE, MANAGEMENT, KEYS)


def endpoint(folder: Path, run: str) -> Endpoint:
    """Where the TorchServe of a run below `folder` listens; its files are there."""
    root = folder / run
    root.mkdir()
    for name in LINKS:
        (root / name).write_text(run)
    return Endpoint(f"unix:{root / INFERENCE}", f"unix:{root / MANAGEMENT}", root / KEYS)


class FakeSupervisor:
    """Tells of its changes as the real one does."""

    def __init__(self, folder: Path, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self.running = False
        self.endpoint = endpoint(folder, "first")

    def change(self, running: bool) -> None:
        self.running = running
        self._on_change()

    async def start(self) -> None:
        self.change(True)

    async def stop(self) -> None:
        self.change(False)


@pytest.fixture
def supervisors(monkeypatch: pytest.MonkeyPatch) -> list[FakeSupervisor]:
    """Those that were made."""
    made: list[FakeSupervisor] = []

    async def prepare(
        _settings: Settings, *, quality: bool, folder: Path, on_change: Callable[[], None]
    ) -> tuple[FakeSupervisor, Mapping[str, object]]:
        made.append(FakeSupervisor(folder, on_change))
        return made[-1], {}

    monkeypatch.setattr(worker_command, "prepare", prepare)
    return made


def read(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in LINKS]


def test_links_lead_to_the_sockets_and_keys(tmp_path: Path) -> None:
    """By paths that hold wherever the folder is mounted."""
    folder = tmp_path / "shared"
    Doorplate(folder).show(endpoint(folder, "run"))
    moved = folder.rename(tmp_path / "elsewhere")
    assert read(moved) == ["run"] * 3


async def test_the_links_follow_a_restart_and_go_at_the_end(tmp_path: Path, supervisors: list[FakeSupervisor]) -> None:
    """While Java is away nothing is there to connect to, and nothing looks healthy."""
    async with running_worker(Settings(_env_file=None), tmp_path):
        (supervisor,) = supervisors
        assert read(tmp_path) == ["first"] * 3
        supervisor.change(False)
        assert not [name for name in LINKS if (tmp_path / name).is_symlink()]
        supervisor.endpoint = endpoint(tmp_path, "second")
        supervisor.change(True)
        assert read(tmp_path) == ["second"] * 3
    assert not [name for name in LINKS if (tmp_path / name).is_symlink()]


async def test_links_of_a_worker_that_was_killed_are_gone_before_the_next_one_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a health check would take the old ones for an answer."""
    (tmp_path / INFERENCE).symlink_to("gone")

    class SeenError(Exception):
        pass

    async def prepare(*_: object, **__: object) -> None:
        assert not (tmp_path / INFERENCE).is_symlink()
        raise SeenError

    monkeypatch.setattr(worker_command, "prepare", prepare)
    with pytest.raises(SeenError):
        async with running_worker(Settings(_env_file=None), tmp_path):
            pass
