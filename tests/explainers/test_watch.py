"""What every method that works in steps owes its watch."""

import dataclasses
import math

import pytest
import torch

from explainers import METHODS, Classes, ImageResult, Stepwise, TopK, Watch
from tests.explainers.cases import CASES, make, model_of, network_of
from tests.explainers.networks import network, pictures
from tests.explainers.test_contract import assert_equal, untouched

MANY_PASSES = {
    "ablation_cam",
    "integrated_gradients",
    "kernel_shap",
    "lime",
    "occlusion",
    "opti_cam",
    "rise",
    "score_cam",
    "smooth_grad",
    "smooth_grad_cam_plus_plus",
    "ss_cam",
}
STEPWISE = sorted(name for name, method in METHODS.items() if issubclass(method, Stepwise))
each_stepwise = pytest.mark.parametrize("name", STEPWISE)
OPTIMISED = ("extremal_perturbation", "opti_cam")
QUICK = {"opti_cam": {"steps": 4}}
ALL = [Classes((0, 1, 4)), TopK(2)]


class Recorder:
    """A watch that notes every call, raises at one, and asks to stop at another. A call may tell of several steps."""

    def __init__(self, raises_at: int | None = None, stops_at: int | None = None) -> None:
        self.calls: list[tuple[int, int, float]] = []
        self._raises_at = raises_at
        self._stops_at = stops_at

    def step(self, done: int, total: int, objective: float) -> bool:
        self.calls.append((done, total, objective))
        if len(self.calls) == self._raises_at:
            raise TimeoutError("nobody waits")
        return len(self.calls) == self._stops_at


def explain(name: str, watch: Watch | None) -> list[ImageResult]:
    """On the last network of its row, where no method has a closed form."""
    method = dataclasses.replace(make(name), **QUICK.get(name, {}))  # type: ignore[type-var]
    assert isinstance(method, Stepwise)
    return method.explain(network_of(subject_of(name)), pictures(2), ALL, watch=watch)


def subject_of(name: str) -> str:
    """One of the networks that the method is tried on."""
    return CASES[name].subjects[-1]


def test_methods_of_many_passes_can_be_watched() -> None:
    """A deadline counts for all methods that are known to take many passes."""
    assert set(STEPWISE) >= MANY_PASSES


@each_stepwise
def test_watch_hears_of_every_step(name: str) -> None:
    """It is called at least twice, counts up to a total that stays the same, and changes nothing."""
    watch = Recorder()
    watched = explain(name, watch)
    total = watch.calls[0][1]
    assert len(watch.calls) >= 2
    done = [call[0] for call in watch.calls]
    assert done == sorted(set(done))
    assert done[-1] == total
    assert {call[1] for call in watch.calls} == {total}
    objectives = [objective for _, _, objective in watch.calls]
    assert all(map(math.isfinite if name in OPTIMISED else math.isnan, objectives))
    for a, b in zip(watched, explain(name, None), strict=True):
        assert_equal(a, b)


@each_stepwise
def test_an_exception_of_the_watch_is_the_callers(name: str) -> None:
    """It passes through at once; nothing is left on the model, and the next call gives the same bits."""
    before = explain(name, None)
    watch = Recorder(raises_at=2)
    with untouched(model_of(subject_of(name))), pytest.raises(TimeoutError, match="nobody waits"):
        explain(name, watch)
    assert len(watch.calls) == 2
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    for a, b in zip(before, explain(name, None), strict=True):
        assert_equal(a, b)


@each_stepwise
def test_stopping_early(name: str) -> None:
    """Asked to stop, a method answers with what there is, for every image, or goes on: as it says of itself."""
    method = METHODS[name]
    assert issubclass(method, Stepwise)
    watch = Recorder(stops_at=1)
    stopped = explain(name, watch)
    if method.partial:
        assert len(watch.calls) == 1
        assert all(item.raw_maximum >= item.raw_minimum for result in stopped for item in result.explanations)
    else:
        assert watch.calls[-1][0] == watch.calls[-1][1]
        for a, b in zip(stopped, explain(name, None), strict=True):
            assert_equal(a, b)


def test_a_stopped_mean_is_the_mean_of_what_there_is() -> None:
    """Some of 25 noisy versions give what so many noisy versions give: the noise starts the same."""
    for name in ("smooth_grad", "smooth_grad_cam_plus_plus"):
        kind, watch = METHODS[name], Recorder(stops_at=3)
        stopped = kind().explain(network_of("vgg"), pictures(2), ALL, watch=watch)  # type: ignore[call-arg]
        done, total = watch.calls[-1][:2]
        assert 3 <= done < total
        short = kind(samples=done).explain(network_of("vgg"), pictures(2), ALL)  # type: ignore[call-arg]
        for a, b in zip(stopped, short, strict=True):
            assert_equal(a, b)


class Gazer(Recorder):
    """A watch that wants to see the maps so far at one step, and asks to stop right there."""

    def __init__(self, at: int) -> None:
        super().__init__(stops_at=at)
        self.seen: list[list[ImageResult]] = []
        self._at = at

    def wants_maps(self) -> bool:
        return len(self.calls) + 1 == self._at

    def maps(self, results: list[ImageResult]) -> None:
        self.seen.append(results)


@pytest.mark.parametrize("name", ["extremal_perturbation", "opti_cam", "rise"])
def test_the_maps_so_far_are_what_stopping_there_would_give(name: str) -> None:
    """For every image and target; they are made for who wants to see them only."""
    watch = Gazer(at=2)
    stopped = explain(name, watch)
    (seen,) = watch.seen
    for a, b in zip(seen, stopped, strict=True):
        assert_equal(a, b)


def test_closed_forms_have_nothing_to_watch() -> None:
    """Ablation-CAM before a linear head takes one pass, and no step."""
    watch = Recorder()
    METHODS["ablation_cam"]().explain(network(model_of("residual")), pictures(2), ALL, watch=watch)  # type: ignore[call-arg]
    assert watch.calls == []
