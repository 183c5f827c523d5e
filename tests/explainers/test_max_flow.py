"""Maximum flow through dense layers."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from explainers import max_flow as module
from explainers.max_flow import max_flow
from tests.explainers.references_flow import ford_fulkerson, layered

Network = tuple[np.ndarray, list[np.ndarray], np.ndarray]


def random_networks(count: int, seed: int, nodes: int = 7, share: float = 0.6) -> Iterator[Network]:
    """Of 1 to 6 layers of up to `nodes` nodes, with whole numbers below 10 on a share of the edges: many detours."""
    generator = np.random.default_rng(seed)

    def capacities(*shape: int) -> np.ndarray:
        return generator.integers(0, 10, shape) * (generator.random(shape) < share)

    for _ in range(count):
        sizes = generator.integers(1, nodes + 1, generator.integers(1, 7))
        between = [capacities(a, b) for a, b in itertools.pairwise(sizes)]
        yield capacities(sizes[0]), between, capacities(sizes[-1])


def attention_like(layers: int, nodes: int, seed: int, attended: float = 1.0) -> Network:
    """Softmax rows and their residual connections; to a node with this share of the others' attention."""
    generator = np.random.default_rng(seed)
    scores = np.exp(3 * generator.standard_normal((layers, nodes, nodes)))
    scores[:, :, -1] *= attended
    factors = (scores / scores.sum(axis=2, keepdims=True) + np.eye(nodes)) / 2
    return factors[0][0], list(factors[1:-1]), factors[-1][:, -1]


def trivial(source: np.ndarray, sink: np.ndarray) -> float:
    return min(source.sum(), sink.sum())


def test_agrees_with_ford_fulkerson_on_whole_numbers() -> None:
    """To rounding, on 400 networks, many of whose smallest cuts lie inside."""
    inside = 0
    for source, between, sink in random_networks(400, seed=0):
        expected = ford_fulkerson(layered(source, between, sink), "source", "sink")
        assert max_flow(source, between, sink) == pytest.approx(expected, abs=1e-10)
        inside += expected < trivial(source, sink)
    assert inside > 100


@pytest.mark.parametrize("attended", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("layers", [2, 3, 6])
def test_agrees_with_ford_fulkerson_on_attention(layers: int, attended: float) -> None:
    """To 1e-9, on rows that sum to 1."""
    for seed in range(5):
        source, between, sink = attention_like(layers, 8, seed, attended)
        expected = ford_fulkerson(layered(source, between, sink), "source", "sink")
        assert max_flow(source, between, sink) == pytest.approx(expected, abs=1e-9)


def test_flow_must_turn_back() -> None:
    """The first node fills what the second one needs; the excess goes back up and around."""
    source = np.array([1.0, 1.0])
    between = [np.array([[1.0, 1.0], [1.0, 0.0]]), np.eye(2)]
    assert max_flow(source, between, np.array([1.0, 1.0])) == 2.0
    assert max_flow(source, between, np.array([1.0, 0.25])) == 1.25
    assert max_flow(source, between, np.array([1.0, 0.0])) == 1.0


@pytest.mark.parametrize(
    ("source", "between", "sink", "expected"),
    [
        ([0.0, 0.0], [], [1.0, 1.0], 0.0),
        ([1.0, 1.0], [], [0.0, 0.0], 0.0),
        ([1.0, 2.0], [], [2.0, 1.0], 2.0),
        ([3.0], [[[0.0]]], [3.0], 0.0),
        ([3.0], [[[0.5, 0.25]]], [3.0, 0.125], 0.625),
    ],
)
def test_by_hand(source: list[float], between: list[list[list[float]]], sink: list[float], expected: float) -> None:
    """Nothing in, nothing out, one layer, no way through, a narrow middle."""
    value = max_flow(np.array(source), [np.array(pair) for pair in between], np.array(sink))
    assert value == pytest.approx(expected, abs=1e-12)


def test_capacities_stay_as_they_are() -> None:
    """What is handed in is not written: one graph serves all patches."""
    source, between, sink = attention_like(5, 8, seed=1)
    copies = source.copy(), [pair.copy() for pair in between], sink.copy()
    first = max_flow(source, between, sink)
    assert max_flow(source, between, sink) == first
    for array, copy in zip((source, *between, sink), (copies[0], *copies[1], copies[2]), strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("passes", [0, 1])
def test_caution_only_saves_rounds(monkeypatch: pytest.MonkeyPatch, passes: int) -> None:
    """Without it the value is the same."""
    networks = list(random_networks(100, seed=1))
    expected = [max_flow(*network) for network in networks]
    monkeypatch.setattr(module, "CAREFUL_PASSES", passes)
    assert [max_flow(*network) for network in networks] == pytest.approx(expected, abs=1e-10)


@pytest.mark.oracle
def test_agrees_with_networkx() -> None:
    """Two implementations by others: here on floats."""
    networkx = pytest.importorskip("networkx")
    for seed in range(5):
        source, between, sink = attention_like(5, 10, seed)
        graph = networkx.DiGraph()
        for (a, b), capacity in layered(source, between, sink).items():
            graph.add_edge(a, b, capacity=capacity)
        expected = networkx.maximum_flow_value(graph, "source", "sink")
        assert max_flow(source, between, sink) == pytest.approx(expected, abs=1e-9)


@pytest.mark.oracle
def test_agrees_with_scipy() -> None:
    """And on whole numbers, in larger networks."""
    sparse = pytest.importorskip("scipy.sparse")
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    attention = (attention_like(8, 40, seed, attended) for seed in range(3) for attended in (0.001, 0.1, 1.0))
    scaled = (tuple([(2.0**20 * each).round() for each in part] for part in network) for network in attention)
    inside = 0
    for source, between, sink in (*scaled, *random_networks(40, seed=2, nodes=60, share=0.1)):
        source, sink = np.array(source), np.array(sink)
        nodes: dict[object, int] = {"source": 0, "sink": 1}
        edges = layered(source, between, sink)
        for node in (node for pair in edges for node in pair):
            nodes.setdefault(node, len(nodes))
        rows, columns = ([nodes[pair[side]] for pair in edges] for side in (0, 1))
        capacities = np.array(list(edges.values()), np.int32)
        graph = sparse.csr_array((capacities, (rows, columns)), shape=(len(nodes), len(nodes)))
        expected = int(csgraph.maximum_flow(graph, 0, 1).flow_value)
        scale = max(1.0, capacities.max() / 10)
        value = max_flow(source / scale, [pair / scale for pair in between], sink / scale)
        assert value * scale == pytest.approx(expected, abs=1e-4)
        inside += expected < trivial(source, sink)
    assert inside > 10
