"""Maximum flow and attention flow again, straight from their definitions."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from tests.explainers.references import Map
from tests.explainers.references_attention import Transformer

Edges = dict[tuple[Hashable, Hashable], float]


def layered(source: Map, between: Sequence[Map], sink: Map) -> Edges:
    """The edges of `explainers.max_flow.max_flow`, between nodes (layer, place), "source" and "sink"."""
    edges: Edges = {("source", (0, place)): float(capacity) for place, capacity in enumerate(source)}
    for layer, matrix in enumerate(between):
        for upper, lower in np.ndindex(*matrix.shape):
            edges[(layer, upper), (layer + 1, lower)] = float(matrix[upper, lower])
    edges |= {((len(between), place), "sink"): float(capacity) for place, capacity in enumerate(sink)}
    return edges


def ford_fulkerson(edges: Edges, source: Hashable, sink: Hashable) -> float:
    """Fill the shortest path that still has room, as long as there is one."""
    residual = dict(edges)
    residual |= {(b, a): 0.0 for a, b in edges}
    neighbours: dict[Hashable, list[Hashable]] = {}
    for a, b in residual:
        neighbours.setdefault(a, []).append(b)
    total = 0.0
    while True:
        came_from: dict[Hashable, Hashable] = {source: source}
        waiting = [source]
        for node in waiting:  # grows while it is walked
            for other in neighbours[node]:
                if other not in came_from and residual[node, other] > 1e-15:
                    came_from[other] = node
                    waiting.append(other)
        if sink not in came_from:
            return total
        path = [sink]
        while path[-1] != source:
            path.append(came_from[path[-1]])
        steps = list(zip(path[1:], path, strict=False))
        amount = min(residual[step] for step in steps)
        for a, b in steps:
            residual[a, b] -= amount
            residual[b, a] += amount
        total += amount


def attention_flow(transformer: Transformer) -> Tensor:
    """The maximum flow from the class token behind the last block to each token before the first."""
    edges: Edges = {}
    tokens = len(transformer.output)
    for block, layer in enumerate(transformer.layers):
        mean = sum(layer.attentions, torch.zeros(tokens, tokens)) / transformer.heads
        matrix = mean.detach() + torch.eye(tokens)
        matrix /= matrix.sum(dim=1, keepdim=True)
        for upper in range(tokens):
            for lower in range(tokens):
                edges[(block + 1, upper), (block, lower)] = float(matrix[upper, lower])
    top = (len(transformer.layers), 0)
    return torch.tensor([ford_fulkerson(edges, top, (0, token)) for token in range(tokens)])
