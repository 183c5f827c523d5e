"""TIBAV on a real transformer and photographs."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from explainers import Classes, ImageResult, Network, Tibav, TopK
from tests.explainers import references, references_attention
from tests.real_networks import prepared

pytestmark = pytest.mark.real

NAME = "vit_tiny_patch16_224"
HALF = (0.5, 0.5, 0.5)


@cache
def double_network() -> Network:
    """The network in float64."""
    model, _, _ = prepared(NAME)
    return Network(copy.deepcopy(model).double(), input_size=(224, 224), mean=HALF, std=HALF)


@pytest.mark.parametrize("rule", ["published", "stable"])
def test_agrees_with_the_definition(rule: str) -> None:
    """In float64, on a photograph: to the digits that the definition's own rounding leaves."""
    model, _, images = prepared(NAME)
    item = Tibav(rule=rule).explain(double_network(), images[:1], [TopK(1)])[0].explanations[0]
    inputs = references.normalised(images[0], HALF, HALF)
    transformer = references_attention.Transformer(model, inputs, references_attention.TIMM, heads=3)
    row = references_attention.tibav(transformer, item.target, rule)
    raw = references_attention.as_map(row, 14, 14)
    np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-5)


def test_default_is_reliable_in_single_precision() -> None:
    """On every photograph the default map is that of float64 to far better than 1 %."""
    _, network, images = prepared(NAME)
    for batch in images.split(8):
        targets = [Classes((index,)) for index in network.predict(batch).argmax(dim=1).tolist()]
        single, double = (Tibav().explain(net, batch, targets) for net in (network, double_network()))
        assert _largest_difference(single, double) < 1e-3


def test_published_rules_compute_in_double_precision() -> None:
    """Asked for on a network in float32, they give what the network in float64 gives."""
    _, network, images = prepared(NAME)
    results = [Tibav(rule="published").explain(net, images[:2], [TopK(1)] * 2) for net in (network, double_network())]
    assert _largest_difference(*results) < 1e-3


def test_batch_of_sixteen_equals_sixteen_singles() -> None:
    """What else is in the batch makes no difference."""
    _, network, images = prepared(NAME)
    images = images[:16]
    together = Tibav().explain(network, images, [TopK(1)] * 16)
    alone = [Tibav().explain(network, image[None], [TopK(1)])[0] for image in images]
    assert _largest_difference(together, alone) < 1e-4


def test_depends_on_the_class() -> None:
    """Two classes of one photograph get different maps."""
    _, network, images = prepared(NAME)
    first, second = Tibav().explain(network, images[:1], [Classes((281, 817))])[0].explanations
    assert _correlation(first.map, second.map) < 0.9


def _largest_difference(a: list[ImageResult], b: list[ImageResult]) -> float:
    pairs = [(x.explanations[0], y.explanations[0]) for x, y in zip(a, b, strict=True)]
    assert [x.target for x, _ in pairs] == [y.target for _, y in pairs]
    return max(float((x.map - y.map).abs().max()) for x, y in pairs)


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
