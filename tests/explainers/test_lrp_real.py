"""LRP on real networks and photographs."""

import pytest
import torch
from torch import Tensor, nn

from explainers import ImageResult, Lrp, NotApplicableError, TopK
from explainers.lrp_pass import Propagation
from explainers.lrp_rules import RULE_SETS
from explainers.lrp_tape import Step
from tests.real_networks import prepared

pytestmark = pytest.mark.real

COUNT = 4


def sums_and_logits(results: list[ImageResult]) -> tuple[Tensor, Tensor]:
    """What each raw map adds up to, and the logit of its class."""
    items = [(result.logits, result.explanations[0]) for result in results]
    sums = [(i.map.double() * (i.raw_maximum - i.raw_minimum) + i.raw_minimum).sum() for _, i in items]
    return torch.stack(sums), torch.stack([logits[i.target].double() for logits, i in items])


@pytest.mark.parametrize("name", ["squeezenet1_1", "cifar10_resnet20"])
def test_deep_taylor_is_conservative(name: str) -> None:
    """The raw map of a photograph's best class adds up to its logit and is nowhere negative."""
    _, network, images = prepared(name)
    results = Lrp().explain(network, images[:COUNT], [TopK(1)] * COUNT)
    sums, logits = sums_and_logits(results)
    torch.testing.assert_close(sums, logits, rtol=1e-5, atol=0)
    assert all(result.explanations[0].raw_minimum >= 0 for result in results)


def unheard(step: Step) -> Tensor:
    """Where a convolution's output has no positive contribution; inputs are not negative where this is used."""
    _, weight, _, *rest = step.arguments
    (x,) = step.values
    assert x.min() >= 0
    return torch.ops.aten.convolution(x, weight.clamp(min=0), None, *rest) == 0


def test_depthwise_convolutions_lose_what_only_biases_made() -> None:
    """MobileNetV2: the sum falls short of the logit by the relevance of neurons without any positive contribution.

    All of them are in depthwise convolutions, whose neurons have nine inputs at most, and where biases are positive.
    """
    _, network, images = prepared("mobilenet_v2_1.0_224")
    tape = network.tape(images[:COUNT])
    propagation = Propagation(tape, RULE_SETS["deep_taylor"], 0, network.pixel_bounds)
    best = tape.logits.argmax(dim=1)
    seed = nn.functional.one_hot(best, tape.logits.shape[1]) * tape.logits
    found, lost = {tape.output: seed}, torch.zeros(COUNT)
    for link in reversed(propagation.links):
        relevance = found.pop(link.output)
        shares = link.hand_back(relevance)
        for source, part in zip(link.sources, shares, strict=True):
            found[source] = found.get(source, 0) + part
        if link.output.operator == "convolution" and link.output.arguments[-1] > 1:  # groups
            lost += relevance.where(unheard(link.output), 0).sum(dim=(1, 2, 3))
    pixels = found[tape.image]
    assert torch.equal(pixels, propagation(seed))
    assert pixels.min() >= 0
    torch.testing.assert_close(pixels.sum(dim=(1, 2, 3)) + lost, seed.sum(dim=1), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224", "squeezenet1_1", "cifar10_resnet20"])
def test_batch_equals_single(name: str) -> None:
    """What else is in the batch makes no difference, under the default rule."""
    _, network, images = prepared(name)
    together = Lrp().explain(network, images[:COUNT], [TopK(1)] * COUNT)
    for image, result in zip(images[:COUNT], together, strict=True):
        alone = Lrp().explain(network, image[None], [TopK(1)])[0].explanations[0]
        torch.testing.assert_close(result.explanations[0].map, alone.map, rtol=0, atol=1e-4)


def test_transformer() -> None:
    """A real transformer is refused, with the name of the method to take."""
    _, network, _ = prepared("vit_tiny_patch16_224")
    with pytest.raises(NotApplicableError, match="tibav"):
        Lrp().resolve(network)
