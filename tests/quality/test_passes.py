"""A check can end every metric between two parts of its passes."""

import threading

import pytest
import torch

from explainers import METHODS, TopK
from quality import Evidence, Insertion, explain_by, watched
from quality.evidence import Need
from quality.passes import checkpoint, explain, predict
from tests.explainers.networks import network, pictures, prepare, vgg
from tests.quality.cases import CASES, evidence
from tests.quality.toys import Redness, toy


class TooLateError(Exception):
    """What a check of these tests raises."""


class After:
    """A check that raises when it is called once more than allowed."""

    def __init__(self, allowed: float = float("inf")) -> None:
        self.calls = 0
        self._allowed = allowed

    def __call__(self) -> None:
        self.calls += 1
        if self.calls > self._allowed:
            raise TooLateError


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if Need.NETWORK in case.metric(name).needs])
def test_every_metric_with_a_network_can_be_ended(name: str) -> None:
    """The check's error passes through as it is, and the evidence can be used again afterwards."""
    metric = CASES[name].metric(name)
    fresh = evidence()
    with watched(After(0)), pytest.raises(TooLateError):
        metric.values(fresh)
    torch.testing.assert_close(metric.values(fresh), metric.values(evidence()), equal_nan=True)


def test_a_check_before_each_part() -> None:
    """As many as there are parts, and nothing goes through the network after the one that fails."""
    net = toy(Redness(), (4, 4))
    images = torch.rand(3 * net.images_at_once - 1, 3, 4, 4)
    check = After()
    with watched(check):
        whole = list(predict(net, images))
    assert (check.calls, len(whole)) == (3, 3)
    two = predict(net, images)
    with watched(After(2)):
        assert len([next(two), next(two)]) == 2
        with pytest.raises(TooLateError):
            next(two)


def test_a_curve_is_checked_all_along() -> None:
    """Insertion asks before each part of its steps, not once."""
    one = Evidence(pictures(1), ((0,),), torch.rand(1, 4, 4), network=network(prepare(vgg())))
    check = After()
    with watched(check):
        Insertion(steps=65).values(one)
    assert check.calls == 64 / one.given(Need.NETWORK).images_at_once + 2  # the steps, the image and the baseline


def test_methods_that_work_in_steps_are_ended_between_them() -> None:
    """Opti-CAM is watched where a metric explains again; another method is asked once before."""
    net, images = network(prepare(vgg())), pictures(1)
    check = After()
    with watched(check):
        explain(METHODS["opti_cam"](steps=7), net, images, [TopK()])
        assert check.calls == 1 + 7
        explain(METHODS["grad_cam"](), net, images, [TopK()])
        assert check.calls == 1 + 7 + 1
    again = explain_by(METHODS["opti_cam"](steps=7))
    with watched(After(3)), pytest.raises(TooLateError):
        again(net, images, ((0,),))


def test_an_unwatched_method_gives_the_same_map() -> None:
    """The watch only looks."""
    net, images, method = network(prepare(vgg())), pictures(2), METHODS["opti_cam"](steps=3)
    results = method.explain(net, images, [TopK()] * 2)
    with watched(After()):
        again = explain(method, net, images, [TopK()] * 2)
    for result, other in zip(results, again, strict=True):
        assert torch.equal(result.explanations[0].map, other.explanations[0].map)


def test_a_check_ends_with_its_block() -> None:
    """After the block, also after an error in it, the check around it counts again, or none."""
    outer, inner = After(), After(0)
    checkpoint()
    with watched(outer):
        with pytest.raises(TooLateError), watched(inner):
            checkpoint()
        checkpoint()
    checkpoint()
    assert (outer.calls, inner.calls) == (1, 1)


def test_a_check_is_its_threads_own() -> None:
    """What another thread does meanwhile is not checked."""
    check = After(0)
    with watched(check):
        thread = threading.Thread(target=checkpoint)
        thread.start()
        thread.join()
    assert check.calls == 0
