"""Metrics of a model with a sigmoid: each class by itself."""

from dataclasses import replace

import pytest
import torch

from explainers import Activation
from quality import METRICS, Evidence, Need, PositivePerturbationWithZero
from tests.explainers.binary import models, networks
from tests.explainers.networks import pictures
from tests.quality.cases import CASES

COUNT = 3
PROBABILITIES = sorted(name for name, metric in METRICS.items() if Need.NETWORK in metric.needs)


def evidence(which: int) -> Evidence:
    """Of the head with one logit (0) or two (1), with the same maps of the same class."""
    generator = torch.Generator().manual_seed(3)
    maps, others = torch.rand(2, COUNT, 5, 5, generator=generator)
    images = pictures(COUNT)
    return Evidence(
        images,
        ((which,),) * COUNT,
        maps,
        network=networks()[which],
        model=models()[which],
        boxes=(torch.tensor([[4.0, 6.0, 20.0, 25.0]]),) * COUNT,
        masks=torch.rand(COUNT, 32, 32, generator=generator) < 0.4,
        other_maps=others,
        explain=lambda _network, _images, _classes: maps.flip(-1),
    )


@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_binary_head_is_measured_as_its_two_classes(name: str) -> None:
    """One logit z with a sigmoid has the figures of the logits 0 and z with a softmax."""
    metric = CASES[name].metric(name)
    ours, theirs = (metric.values(evidence(which)) for which in (0, 1))
    assert bool(theirs.isfinite().any())
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("logit", "right"), [(0.2, True), (-0.2, False)])
def test_no_class_competes(logit: float, right: bool) -> None:
    """A class is found when it is more probable than not, whatever is more probable still."""
    logits = torch.tensor([[logit, 5.0]])
    network = networks()[1]
    sigmoid = Evidence(pictures(1), ((0,),), torch.rand(1, 5, 5), network=network, logits=logits)
    assert not bool(sigmoid.right)
    other = network.like(models()[1])
    other.activation = Activation.SIGMOID
    assert bool(replace(sigmoid, network=other).right) is right


def test_perturbation_asks_for_the_rows_class() -> None:
    """Where the unchanged image has not the class, that is wrong; against what is predicted there, it is right."""
    found = replace(evidence(0), logits=torch.full((COUNT, 1), -9.0))
    target, predicted = (PositivePerturbationWithZero(right=right).values(found) for right in ("target", "predicted"))
    # The nine perturbed images are the network's own: both count them alike or the other way round.
    torch.testing.assert_close(target + predicted, torch.full_like(target, 0.9))
