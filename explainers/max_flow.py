"""Maximum flow through a network of dense layers.

Edges lead from a source to the nodes of the top layer, from each layer to the next lower one, and from the bottom layer
to a sink. The algorithm is push-relabel (Goldberg, Tarjan, JACM 1988), without the return of what never arrives, which
the value does not need. Every edge of the source is filled at the start. Then come rounds of two steps:

1. a search from the sink finds each node's distance to it in the residual network;
2. a wave from the farthest nodes to the nearest pushes every excess to nodes whose distance is smaller by one, whole
   layers at a time.

Behind a wave no node with an excess has room left on an edge to a smaller distance, so its distance grows with every
round. The rounds end when no excess reaches the sink any more, or when as much has arrived as the source or the sink
can take at most.

A push prefers the receivers that can pass most on, and in its first passes gives none more than it can pass on (an
upper bound, found by the search). That saves rounds, and has no part in why the value is right.

Capacities up to `NO_CAPACITY` and excesses up to `NO_EXCESS` count as nothing: with capacities of the order of 1 the
value is right to about 1e-9.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Rank = dict[int, Indices]
"""The nodes at one distance from the sink: by layer, those that can pass most on first."""

NO_CAPACITY = 1e-15
NO_EXCESS = 1e-14
CAREFUL_PASSES = 3  # of a push, in which no receiver is given more than it can pass on
UNREACHABLE = np.iinfo(np.intp).max


def max_flow(source: Array, between: Sequence[Array], sink: Array) -> float:
    """Value of the maximum flow.

    Args:
        source: capacity of the edge to each node of the top layer, shape (n,).
        between: capacities from each layer (rows) to the next lower one (columns), topmost first.
        sink: capacity of the edge from each node of the bottom layer, shape (m,).

    All capacities are finite, not negative, and of the order of 1.
    """
    bound = float(min(source.sum(), sink.sum()))
    residual = _Residual(source, between, sink)
    while bound - residual.arrived > NO_EXCESS:
        ranks, throughput = residual.search()
        if not residual.wave(ranks, throughput):
            break
    return min(residual.arrived, bound)


class _Residual:
    """Residual capacities and excesses.

    Layers are counted from the bottom. Capacities between layers i + 1 and i are at place i, flat, a row for each upper
    node, both for the way down and for the way up.
    """

    def __init__(self, source: Array, between: Sequence[Array], sink: Array) -> None:
        self.down = [np.array(pair, np.float64).ravel() for pair in reversed(between)]
        self.up = [np.zeros_like(pair) for pair in self.down]
        self.sink = np.array(sink, np.float64)
        self.excess = [np.zeros(pair.shape[1]) for pair in reversed(between)]
        self.excess.append(np.array(source, np.float64))
        self.arrived = 0.0

    def search(self) -> tuple[list[Rank], list[Array]]:
        """Nodes by distance from the sink, nearest first, and an upper bound of what each of them can pass on."""
        distance = [np.full(len(layer), UNREACHABLE) for layer in self.excess]
        throughput = [np.zeros(len(layer)) for layer in self.excess]
        last = np.flatnonzero(self.sink > NO_CAPACITY)
        throughput[0][last] = self.sink[last]
        ranks: list[Rank] = []
        rank: Rank = {0: last} if len(last) else {}
        while rank:
            for layer, nodes in rank.items():
                distance[layer][nodes] = len(ranks)
            ranks.append({layer: nodes[np.argsort(-throughput[layer][nodes])] for layer, nodes in rank.items()})
            found: dict[int, list[Indices]] = {}
            for layer, nodes in rank.items():
                for other in (layer + 1, layer - 1):
                    if 0 <= other < len(self.excess):
                        senders = np.flatnonzero(distance[other] == UNREACHABLE)
                        forth, _, edges = self._edges(other, senders, layer, nodes)
                        capacity = forth.take(edges)
                        open_ = capacity > NO_CAPACITY
                        passed = np.minimum(capacity, throughput[layer][nodes])
                        throughput[other][senders] += passed.sum(axis=1, where=open_)
                        found.setdefault(other, []).append(senders[open_.any(axis=1)])
            unions = {layer: np.unique(np.concatenate(parts)) for layer, parts in found.items()}
            rank = {layer: nodes for layer, nodes in unions.items() if len(nodes)}
        return ranks, throughput

    def wave(self, ranks: list[Rank], throughput: list[Array]) -> bool:
        """Push every excess as near to the sink as edges to the next smaller distance lead. False: there was none."""
        moved = False
        for distance in range(len(ranks) - 1, -1, -1):
            for layer, nodes in ranks[distance].items():
                senders = nodes[self.excess[layer][nodes] > NO_EXCESS]
                moved |= len(senders) > 0
                if distance == 0:
                    self._drain(senders)
                    continue
                for other in (layer - 1, layer + 1):
                    if other in ranks[distance - 1] and len(senders):
                        self._push(layer, senders, other, ranks[distance - 1][other], throughput[other])
        return moved

    def _drain(self, nodes: Indices) -> None:
        """Push from the bottom layer to the sink."""
        pushed = np.minimum(self.excess[0][nodes], self.sink[nodes])
        self.sink[nodes] -= pushed
        self.excess[0][nodes] -= pushed
        self.arrived += float(pushed.sum())

    def _push(self, layer: int, senders: Indices, other: int, receivers: Indices, throughput: Array) -> None:
        """Push from nodes of one layer to nodes of a neighbouring one."""
        forth, back, edges = self._edges(layer, senders, other, receivers)
        capacity = forth.take(edges)
        room = (throughput[receivers] - self.excess[other][receivers]).clip(min=0)
        pushed = _share(capacity, self.excess[layer][senders], room)
        forth[edges] = (capacity - pushed).clip(min=0)
        back[edges] += pushed
        self.excess[layer][senders] = (self.excess[layer][senders] - pushed.sum(axis=1)).clip(min=0)
        self.excess[other][receivers] += pushed.sum(axis=0)

    def _edges(
        self, layer: int, senders: Indices, other: int, receivers: Indices
    ) -> tuple[Array, Array, NDArray[np.intp]]:
        """Capacities between two layers there and back, and where in both the edges are, (senders, receivers)."""
        width = len(self.excess[min(layer, other)])
        if other < layer:
            return self.down[other], self.up[other], senders[:, None] * width + receivers
        return self.up[layer], self.down[layer], receivers * width + senders[:, None]


def _share(capacity: Array, excess: Array, room: Array) -> Array:
    """How much each sender pushes to each receiver: as much as edges and excess allow.

    Args:
        capacity: of the edges, shape (senders, receivers), the receivers to prefer first.
        excess: of the senders.
        room: what the receivers should get at most. More is pushed only where a sender can't get rid of it otherwise.
    """
    pushed = np.zeros_like(capacity)
    for _ in range(CAREFUL_PASSES):
        part = _in_order(np.minimum(capacity, room), excess)
        wanted = part.sum(axis=0)
        part *= np.minimum(1, np.divide(room, wanted, out=np.ones_like(wanted), where=wanted > 0))
        pushed += part
        excess = (excess - part.sum(axis=1)).clip(min=0)
        if excess.max() <= NO_EXCESS:
            return pushed
        room = (room - part.sum(axis=0)).clip(min=0)
        capacity = (capacity - part).clip(min=0)
    return pushed + _in_order(capacity, excess)


def _in_order(capacity: Array, excess: Array) -> Array:
    """Each row's excess laid on its edges, one after the other."""
    before = capacity.cumsum(axis=1) - capacity
    laid: Array = np.minimum(capacity, (excess[:, None] - before).clip(min=0))
    return laid
