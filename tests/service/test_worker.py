"""Which registrations TorchServe gets."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from model_store.manifest import ManifestError
from service import sanity, worker
from service.sampling import sampler
from service.settings import Settings
from service.torchserve.supervisor import ServedModel, SupervisorOptions
from service.worker import start_worker
from tests.tiny import write_tiny

SERVING = "\n[models.serving]\nworkers = 3\nbatch_size = 8\nmax_batch_delay_ms = 20\nresponse_timeout_s = {}\n"


class FakeSupervisor:
    """Keeps what it is to serve."""

    last: "FakeSupervisor"

    def __init__(self, models: Sequence[ServedModel], _options: SupervisorOptions) -> None:
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


def settings(folder: Path, response_timeout: int = 30) -> Settings:
    manifest = write_tiny(folder)
    manifest.write_text(manifest.read_text() + SERVING.format(response_timeout))
    return Settings(_env_file=None, manifest=manifest, store=folder / "store")  # type: ignore[call-arg]


async def test_without_quality_there_is_one_registration_for_a_model(tmp_path: Path) -> None:
    """As the manifest says."""
    async with start_worker(settings(tmp_path), quality=False) as started:
        assert started.models == ("tiny",)
    (model,) = FakeSupervisor.last.models
    assert (model.name, model.workers, model.batch_size, model.response_timeout_s) == ("tiny", 3, 8, 30)


async def test_with_quality_each_model_has_a_lane(tmp_path: Path) -> None:
    """The same archive and version, one worker, no batches; the service does not know it as a model."""
    async with start_worker(settings(tmp_path), quality=True) as started:
        assert started.models == ("tiny",)
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


@pytest.mark.parametrize("quality", [True, False])
async def test_no_model_may_be_called_like_a_lane(tmp_path: Path, quality: bool) -> None:
    """It would be taken for one, so the manifest is refused with the reason."""
    manifest = write_tiny(tmp_path)
    manifest.write_text(manifest.read_text().replace('name = "tiny"', 'name = "tiny--quality"'))
    chosen = Settings(_env_file=None, manifest=manifest, store=tmp_path / "store")  # type: ignore[call-arg]
    with pytest.raises(ManifestError, match=r"models\[0\].name.*must not end in --quality"):
        async with start_worker(chosen, quality=quality):
            pytest.fail("it started")
