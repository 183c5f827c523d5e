"""Which registrations TorchServe gets."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from model_store.lanes import Lane
from model_store.manifest import ManifestError
from service import sanity, worker
from service.sampling import sampler
from service.settings import Settings
from service.torchserve.supervisor import ServedModel, SupervisorOptions
from service.worker import start_worker
from tests.tiny import write_tiny

SERVING = """
[models.serving]
workers = 3
fast_workers = {fast}
slow_workers = {slow}
batch_size = 8
max_batch_delay_ms = 20
response_timeout_s = {timeout}
"""


class FakeSupervisor:
    """Keeps what it is to serve."""

    last: "FakeSupervisor"

    def __init__(self, models: Sequence[ServedModel], _options: SupervisorOptions, _on_change: object) -> None:
        FakeSupervisor.last = self
        self.models = list(models)
        self.restarts = 0
        self.endpoint = SimpleNamespace()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_torchserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "Supervisor", FakeSupervisor)
    monkeypatch.setattr(worker, "find_java", lambda _: Path("java"))


def settings(folder: Path, timeout: int = 30, fast: int = 0, slow: int = 0, **chosen: object) -> Settings:
    manifest = write_tiny(folder)
    manifest.write_text(manifest.read_text() + SERVING.format(timeout=timeout, fast=fast, slow=slow))
    return Settings(_env_file=None, manifest=manifest, store=folder / "store", **chosen)  # type: ignore[arg-type]


async def test_a_model_without_lanes_has_one_registration(tmp_path: Path) -> None:
    """As the manifest says: its workers do everything."""
    async with start_worker(settings(tmp_path), quality=False) as started:
        assert started.models == {"tiny": (Lane.PREDICT,)}
    (model,) = FakeSupervisor.last.models
    assert (model.name, model.workers, model.batch_size, model.response_timeout_s) == ("tiny", 3, 8, 30)


async def test_each_lane_has_a_registration_of_the_same_archive(tmp_path: Path) -> None:
    """With workers of its own; slow maps come one at a time, and have as long as the service allows them."""
    async with start_worker(settings(tmp_path, fast=2, slow=1, longest_timeout=90.5), quality=False) as started:
        assert started.models == {"tiny": (Lane.PREDICT, Lane.FAST, Lane.SLOW)}
    model, fast, slow = FakeSupervisor.last.models
    assert {each.archive for each in (model, fast, slow)} == {model.archive}
    assert [each.name for each in (model, fast, slow)] == ["tiny", "tiny--fast", "tiny--slow"]
    assert [each.workers for each in (model, fast, slow)] == [3, 2, 1]
    assert [each.batch_size for each in (model, fast, slow)] == [8, 8, 1]
    assert [each.response_timeout_s for each in (model, fast)] == [30, 30]
    assert slow.response_timeout_s > 91


@pytest.mark.parametrize(("fast", "slow", "lanes"), [(1, 0, "predict fast"), (0, 1, "predict slow")])
async def test_a_lane_may_do_without_workers(tmp_path: Path, fast: int, slow: int, lanes: str) -> None:
    """0 of them: no registration."""
    async with start_worker(settings(tmp_path, fast=fast, slow=slow), quality=False) as started:
        assert " ".join(started.models["tiny"]) == lanes
    assert len(FakeSupervisor.last.models) == 2


async def test_with_quality_each_model_has_a_lane(tmp_path: Path) -> None:
    """The same archive and version, one worker, no batches; the service does not know it as a model."""
    async with start_worker(settings(tmp_path), quality=True) as started:
        assert tuple(started.models) == ("tiny",)
    model, lane = FakeSupervisor.last.models
    assert (lane.name, lane.archive, lane.version) == ("tiny--quality", model.archive, model.version)
    assert (lane.workers, lane.batch_size, lane.max_batch_delay_ms) == (1, 1, 0)
    assert (model.workers, model.batch_size) == (3, 8)


@pytest.mark.parametrize(("given", "longest"), [(30, 360), (1000, 1000)])
async def test_a_lane_has_time(tmp_path: Path, given: int, longest: int) -> None:
    """TorchServe does not kill the worker over what the service still waits for."""
    async with start_worker(settings(tmp_path, given), quality=True):
        pass
    timeout = FakeSupervisor.last.models[1].response_timeout_s
    assert timeout == longest
    assert timeout > max(sampler.TIMEOUT, sanity.TIMEOUT)


@pytest.mark.parametrize("suffix", ["--quality", "--fast", "--slow"])
async def test_no_model_may_be_called_like_a_lane(tmp_path: Path, suffix: str) -> None:
    """It would be taken for one, so the manifest is refused with the reason."""
    manifest = write_tiny(tmp_path)
    manifest.write_text(manifest.read_text().replace('name = "tiny"', f'name = "tiny{suffix}"'))
    chosen = Settings(_env_file=None, manifest=manifest, store=tmp_path / "store")  # type: ignore[call-arg]
    with pytest.raises(ManifestError, match=rf"models\[0\].name.*must not end in .*{suffix}"):
        async with start_worker(chosen, quality=False):
            pytest.fail("it started")
