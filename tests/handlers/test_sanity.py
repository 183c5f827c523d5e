"""The sanity check: whether maps depend on what a model has learnt."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from explainers import TopK
from handlers import sanity
from handlers.loading import LoadedModel, load_model
from handlers.sanity import check, clouds
from handlers.settings import Limits
from handlers.worker import Worker
from model_store.archive import build_archive
from model_store.manifest import DEFAULT_MANIFEST, load_manifest
from protos.worker.v1 import worker_pb2
from quality import ModelRandomisation
from tests.tiny import extract, unpack, write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A network without CAM."""
    path = tmp_path_factory.mktemp("two")
    return load_model(unpack(write_tiny(path, "TwoLayers"), path), torch.device("cpu"))


def returning(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    monkeypatch.setattr(ModelRandomisation, "values", lambda *_: torch.tensor(values, dtype=torch.float64))


def test_methods_that_do_not_work_are_left_out(model: LoadedModel) -> None:
    """TIBAV needs a transformer and CAM a linear head; the others are checked in the order asked for."""
    checks = check(model, ["tibav", "gradient", "cam", "grad_cam"])
    assert [each.method for each in checks] == ["gradient", "grad_cam"]
    for each in checks:
        assert -1 <= each.rank_correlation <= 1
        assert each.passed == (each.rank_correlation < 0.5)
        assert (each.stages, each.images) == (4, 2)


@pytest.mark.parametrize(
    ("values", "mean", "passed"),
    [
        ([0.4, 0.5], 0.45, True),
        ([0.5, 0.5], 0.5, False),
        ([0.9, float("nan")], 0.45, True),
        ([float("nan")] * 2, 0.0, True),
    ],
)
def test_the_threshold(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, values: list[float], mean: float, passed: bool
) -> None:
    """The mean of both images; a map that becomes constant depends on the weights."""
    returning(monkeypatch, values)
    (found,) = check(model, ["grad_cam"])
    assert found.rank_correlation == pytest.approx(mean)
    assert found.passed is passed


def test_the_model_is_as_before(model: LoadedModel) -> None:
    """Its weights, and what it says, stay; asked again it says the same."""
    images = clouds(model.network)
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    before = model.network.predict(images)
    assert check(model, ["grad_cam"]) == check(model, ["grad_cam"])
    assert torch.equal(model.network.predict(images), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.module.state_dict().items())


def test_a_method_that_ignores_the_weights_fails(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge detector draws the same map whatever the network has learnt."""

    class Edges:
        def resolve(self, _network: Any) -> "Edges":
            return self

        def explain(self, network: Any, images: Tensor, _targets: Any) -> Any:
            original = sanity.METHODS["gradient"]().explain(network, images, [TopK()] * len(images))
            brightness = images.mean(dim=1)
            return [
                type(result)(result.logits, (replace(result.explanations[0], brightness[index]),))
                for index, result in enumerate(original)
            ]

    def replace(explanation: Any, brightness: Tensor) -> Any:
        return type(explanation)(**{**vars(explanation), "map": brightness, "degenerate": False})

    monkeypatch.setitem(sanity.METHODS, "edges", Edges)  # type: ignore[arg-type]
    (found,) = check(model, ["edges"])
    assert found.rank_correlation == pytest.approx(1)
    assert not found.passed


def test_the_images_are_smooth_coloured_and_always_the_same(model: LoadedModel) -> None:
    """Neighbours are alike, as in photographs; all of [0, 1] is used; the global state has no say."""
    torch.manual_seed(1)
    images = clouds(model.network)
    torch.manual_seed(2)
    assert torch.equal(images, clouds(model.network))
    assert images.shape == (2, 3, 32, 32)
    assert (images.min(), images.max()) == (0, 1)
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[:, 0], images[:, 1])
    centred = images - images.mean(dim=(2, 3), keepdim=True)
    alike = (centred[..., 1:] * centred[..., :-1]).mean() / centred.square().mean()
    assert alike > 0.5


def test_the_worker_answers(model: LoadedModel) -> None:
    """A request for a sanity check; names that nobody knows are left out."""
    work = worker_pb2.SanityWork(methods=["grad_cam", "made_up"])
    request = worker_pb2.WorkRequest(request_id="r-1", sanity=work)
    (body,) = Worker(model, Limits()).answer([request.SerializeToString()])
    answer = worker_pb2.WorkResponse.FromString(body)
    assert answer.status == worker_pb2.WORK_STATUS_OK
    assert [each.method for each in answer.sanity.checks] == ["grad_cam"]


@pytest.mark.parametrize("position", [0, 1])
def test_the_default_models_pass(position: int, tmp_path: Path) -> None:
    """The maps of both come from what they have learnt."""
    entry = load_manifest(DEFAULT_MANIFEST).models[position]
    folder = extract(build_archive(entry, DEFAULT_MANIFEST.parent, tmp_path / "store"), tmp_path / "unpacked")
    checks = check(load_model(folder, torch.device("cpu")), ["grad_cam", "tibav"])
    assert "grad_cam" in [each.method for each in checks]
    assert all(each.passed for each in checks), checks
