"""Attention flow: what the shared contract does not ask."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainers import (
    METHODS,
    AttentionFlow,
    Classes,
    ImageResult,
    InvalidTargetError,
    Network,
    NotApplicableError,
    Stepwise,
    TopK,
)
from explainers import attention_flow as module
from tests.explainers import references, references_attention
from tests.explainers.networks import MEAN, STD, Block, ViT, network, pictures, prepare
from tests.explainers.references_flow import attention_flow

PATCHES = 16


def vit(blocks: int, attention: float = 1.0) -> nn.Module:
    """A small transformer of that many blocks, its queries scaled to make the attention sharper."""
    model = ViT(registers=2)
    model.blocks = nn.Sequential(*[Block() for _ in range(blocks)])
    model = prepare(model)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.in_proj_weight[:8] *= attention  # type: ignore[index, union-attr]
    return model


def raw(result: ImageResult) -> Tensor:
    """The first map before normalisation."""
    item = result.explanations[0]
    return item.map * (item.raw_maximum - item.raw_minimum) + item.raw_minimum


class Counting:
    """A watch that keeps what it is told, and stops, or raises, after a number of steps."""

    def __init__(self, stop_after: float = math.inf, error: Exception | None = None) -> None:
        self.steps: list[tuple[int, int]] = []
        self._stop_after = stop_after
        self._error = error

    def step(self, done: int, total: int, objective: float) -> bool:
        assert math.isnan(objective)
        self.steps.append((done, total))
        if done >= self._stop_after and self._error is not None:
            raise self._error
        return done >= self._stop_after


@pytest.fixture
def flows(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every maximum flow that is computed."""
    computed: list[float] = []
    original: Callable[..., float] = module.max_flow

    def counted(*arguments: object) -> float:
        computed.append(original(*arguments))
        return computed[-1]

    monkeypatch.setattr(module, "max_flow", counted)
    return computed


@pytest.mark.parametrize(("blocks", "attention"), [(1, 1.0), (3, 5.0), (5, 1.0), (5, 20.0)])
def test_agrees_with_the_definition_in_deep_networks(blocks: int, attention: float) -> None:
    """To 1e-6 of raw values, on networks in float64."""
    model = vit(blocks, attention).double()
    images = pictures(2)
    for image, result in zip(images, AttentionFlow().explain(network(model), images, [TopK()] * 2), strict=True):
        inputs = references.normalised(image, MEAN, STD)
        transformer = references_attention.Transformer(model, inputs, references_attention.TORCH, heads=2)
        expected = references_attention.as_map(attention_flow(transformer), 4, 4)
        np.testing.assert_allclose(raw(result), expected, atol=1e-6)
        np.testing.assert_allclose(result.explanations[0].map, references.min_max(expected), atol=1e-5)


def test_no_less_than_rollout_and_at_most_all() -> None:
    """What rollout brings to a patch is one flow to it; the class token sends 1."""
    net = network(vit(4, 5.0))
    flow, rollout = (raw(METHODS[name]().explain(net, pictures(1), [TopK()])[0]) for name in
                     ("attention_flow", "attention_rollout"))  # fmt: skip
    assert (flow >= rollout - 1e-6).all()
    assert flow.max() <= 1 + 1e-6


def test_one_map_for_all_classes(flows: list[float]) -> None:
    """Each patch's flow is computed once, however many targets there are, and not at all without one."""
    net = network(vit(2))
    items = AttentionFlow().explain(net, pictures(1), [Classes((0, 1, 4))])[0].explanations
    assert len(flows) == PATCHES
    assert all(torch.equal(item.map, items[0].map) for item in items)
    AttentionFlow().explain(net, pictures(1), [Classes(())])
    assert len(flows) == PATCHES


def test_nothing_is_computed_for_a_wrong_class_or_a_broken_image(flows: list[float]) -> None:
    """The classes are checked first; a broken image costs nothing and leaves its neighbour alone."""
    net, images = network(vit(3)), pictures(2)
    with pytest.raises(InvalidTargetError):
        AttentionFlow().explain(net, images, [TopK(), Classes((5,))])
    assert not flows
    images[0] = torch.nan
    broken, good = AttentionFlow().explain(net, images, [TopK()] * 2)
    assert len(flows) == PATCHES
    assert broken.explanations[0].degenerate
    alone = AttentionFlow().explain(net, images[1:], [TopK()])[0]
    torch.testing.assert_close(good.explanations[0].map, alone.explanations[0].map, rtol=0, atol=1e-4)


def test_it_can_be_watched(flows: list[float]) -> None:
    """Every patch of every image is a step; watching changes nothing."""
    net, watch = network(vit(3)), Counting()
    assert isinstance(AttentionFlow(), Stepwise)
    watched = AttentionFlow().explain(net, pictures(2), [TopK(2)] * 2, watch)
    assert watch.steps == [(done, 2 * PATCHES) for done in range(1, 2 * PATCHES + 1)]
    plain = AttentionFlow().explain(net, pictures(2), [TopK(2)] * 2)
    for a, b in zip(watched, plain, strict=True):
        assert torch.equal(raw(a), raw(b))


def test_a_watch_can_stop_it(flows: list[float]) -> None:
    """Patches not reached get a bound: never below their flow."""
    net = network(vit(5, 20.0))
    full = raw(AttentionFlow().explain(net, pictures(1), [TopK()])[0]).flatten()
    flows.clear()
    early = raw(AttentionFlow().explain(net, pictures(1), [TopK()], Counting(stop_after=7))[0]).flatten()
    assert len(flows) == 7
    torch.testing.assert_close(early[:7], full[:7], rtol=0, atol=1e-6)
    assert (early[7:] >= full[7:] - 1e-6).all()
    assert early.max() <= 1 + 1e-6


def test_a_watch_can_give_it_up(flows: list[float]) -> None:
    """What the watch raises comes through, at once."""
    with pytest.raises(TimeoutError):
        AttentionFlow().explain(network(vit(2)), pictures(1), [TopK()], Counting(3, TimeoutError()))
    assert len(flows) == 3


def test_large_networks_are_refused(monkeypatch: pytest.MonkeyPatch, flows: list[float]) -> None:
    """At resolving and at explaining, with the limit in the text; one edge less is enough."""
    net = network(vit(2))
    edges = 19 * 19 * 2
    monkeypatch.setattr(module, "MOST_EDGES", edges)
    AttentionFlow().resolve(net)
    monkeypatch.setattr(module, "MOST_EDGES", edges - 1)
    for attempt in (
        lambda: AttentionFlow().resolve(net),
        lambda: AttentionFlow().target_layer(net),
        lambda: AttentionFlow().explain(net, pictures(1), [TopK()]),
    ):
        with pytest.raises(NotApplicableError, match=f"at most {edges - 1} edges .*has {edges}"):
            attempt()
    assert not flows


def test_uniform_attention_says_nothing() -> None:
    """Where every token attends to all alike, all patches get the same flow: 37/38, by hand."""
    # The smallest cut holds the patch's own nodes: 18 edges of 1/38 in each of two blocks, and one in the last.
    model = vit(3)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.in_proj_weight.zero_()
            block.attention.in_proj_bias.zero_()
    (item,) = AttentionFlow().explain(network(model), pictures(1), [TopK()])[0].explanations
    assert item.degenerate
    assert item.raw_maximum == pytest.approx(37 / 38, abs=1e-6)


@pytest.mark.real
@pytest.mark.oracle
def test_real_transformer() -> None:
    """On a photograph, patches of ViT-Tiny have scipy's flow; the map in float32 is that of float64."""
    from tests.real_networks import prepared

    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    sparse = pytest.importorskip("scipy.sparse")
    model, single, images = prepared("vit_tiny_patch16_224")
    double = Network(copy.deepcopy(model).double(), input_size=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3)
    maps = [AttentionFlow().explain(net, images[:1], [TopK()])[0] for net in (single, double)]
    torch.testing.assert_close(maps[0].explanations[0].map, maps[1].explanations[0].map, rtol=0, atol=1e-5)
    inputs = references.normalised(images[0], (0.5,) * 3, (0.5,) * 3)
    transformer = references_attention.Transformer(model, inputs, references_attention.TIMM, heads=3)
    means = [sum(layer.attentions).detach().numpy() / 3 for layer in transformer.layers]  # type: ignore[arg-type, union-attr]
    rows, columns, capacities = [], [], []
    upper, lower = (each.ravel() for each in np.indices((197, 197)))
    for block, mean in enumerate(means):
        rows.append((block + 1) * 197 + upper)
        columns.append(block * 197 + lower)
        capacities.append((2**24 * (mean + np.eye(197)) / 2).round().astype(np.int32).ravel())
    edges = (np.concatenate(capacities), (np.concatenate(rows), np.concatenate(columns)))
    graph = sparse.csr_array(edges, shape=(13 * 197, 13 * 197))
    for patch in range(0, 196, 28):
        expected = csgraph.maximum_flow(graph, 12 * 197, 1 + patch).flow_value / 2**24
        assert raw(maps[0]).flatten()[patch].item() == pytest.approx(expected, abs=2e-5)
