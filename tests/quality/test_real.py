"""The metrics on real networks and photographs: what is known of a few methods must come out."""

from functools import cache

import pytest
import torch

from explainers import METHODS, ImageResult, Network, TopK
from quality import METRICS, Evidence, Figure, of_results, summarise
from tests.real_networks import prepared

pytestmark = pytest.mark.real

NAMES = ("mobilenet_v2_1.0_224", "squeezenet1_1")
MASKED = ("average_drop", "average_increase", "average_gain")


@cache
def results(name: str, method: str, count: int, **parameters: int) -> tuple[Network, torch.Tensor, list[ImageResult]]:
    """The predicted class of the first photographs, explained."""
    _, network, images = prepared(name)
    images = images[:count]
    return network, images, METHODS[method](**parameters).explain(network, images, [TopK(1)] * len(images))


def figures(evidence: Evidence, metrics: tuple[str, ...], **parameters: int) -> dict[str, Figure]:
    """The figures of some metrics."""
    found = [METRICS[name](**parameters) for name in metrics]
    return {metric.name: summarise(metric, [metric.values(evidence)]) for metric in found}


@pytest.mark.parametrize("name", NAMES)
def test_fake_cam_deceives_average_drop_and_increase(name: str) -> None:
    """One hidden pixel: hardly a drop or a gain, and an increase about half of the time."""
    found = figures(of_results(*results(name, "fake_cam", 24)), MASKED)
    assert found["average_drop"].value < 2
    assert found["average_gain"].value < 3
    assert 20 <= found["average_increase"].value <= 80


def test_opti_cam_gains_more_than_grad_cam() -> None:
    """It was optimised for that."""
    gains = [
        figures(of_results(*results(NAMES[0], method, 4, **parameters)), MASKED)
        for method, parameters in (("opti_cam", {"steps": 30}), ("grad_cam", {}))
    ]
    assert gains[0]["average_gain"].value > gains[1]["average_gain"].value + 10
    assert gains[0]["average_drop"].value < gains[1]["average_drop"].value


def test_random_maps_are_worse_than_grad_cam() -> None:
    """Insertion, deletion, and average drop, in the mean over the photographs."""
    network, images, explained = results(NAMES[0], "grad_cam", 8)
    right = of_results(network, images, explained)
    noise = torch.rand(right.maps.shape, generator=torch.Generator().manual_seed(0))
    random = Evidence(images, right.classes, noise, network, right.logits)
    curves = ("insertion", "deletion")
    ours, theirs = (figures(each, curves, steps=8) | figures(each, ("average_drop",)) for each in (right, random))
    assert ours["insertion"].value > theirs["insertion"].value + 0.05
    assert ours["deletion"].value < theirs["deletion"].value
    assert ours["average_drop"].value < theirs["average_drop"].value


def test_batch_equals_single() -> None:
    """Curves and masked passes of a photograph don't depend on its batch."""
    network, images, explained = results(NAMES[0], "grad_cam", 3)
    whole = of_results(network, images, explained)
    for name, parameters in (("insertion", {"steps": 8}), ("deletion", {"steps": 8}), ("average_drop", {})):
        metric = METRICS[name](**parameters)
        together = metric.values(whole)
        for index in range(3):
            alone = metric.values(of_results(network, images[index : index + 1], explained[index : index + 1]))
            torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-3, atol=1e-3)
