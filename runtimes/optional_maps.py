"""Puts what only the maps of a graph need into a branch: ONNX Runtime computes every node, whatever one asks for."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from runtimes.signature import NO_MAP


def make_maps_optional(graph: Any) -> None:
    """Change a graph in place so that it computes no maps where all of its `classes` are NO_MAP.

    `maps` is then of shape (0, 0, 0, 0).

    Args:
        graph: an onnx_ir.Graph as `runtimes.signature` says, with its nodes in order.
    """
    import onnx_ir as ir

    maps = graph.outputs.pop()
    shared = _behind(graph.outputs)
    apart = [node for node in graph if node not in shared]
    graph.remove(apart)

    def output(name: str) -> list[Any]:
        return [ir.Value(name=f"whylight_{name}")]  # a name that is given nowhere else, in a branch neither

    no_map = {"value": ir.tensor(np.array(NO_MAP, np.int64))}
    nothing = {"value": ir.tensor(np.zeros((0, 0, 0, 0), np.float32))}
    empty = ir.node("Constant", [], nothing, outputs=output("nothing"))
    branches = {
        "then_branch": ir.Graph([], [maps], nodes=apart, name="maps"),
        "else_branch": ir.Graph([], list(empty.outputs), nodes=[empty], name="no_maps"),
    }
    least = ir.node("Constant", [], no_map, outputs=output("no_map"))
    highest = ir.node("ReduceMax", [graph.inputs[1]], {"keepdims": 0}, outputs=output("highest"))
    wanted = ir.node("Greater", [highest.outputs[0], least.outputs[0]], outputs=output("wanted"))
    chosen = ir.node("If", [wanted.outputs[0]], branches, outputs=[ir.Value(name=maps.name, type=maps.type)])
    maps.name = f"{maps.name}_computed"
    graph.extend([least, highest, wanted, chosen])
    graph.outputs.append(chosen.outputs[0])


def _behind(values: Iterable[Any]) -> set[Any]:
    """The nodes that values come from."""
    found: set[Any] = set()
    left = [value.producer() for value in values]
    while left:
        node = left.pop()
        if node is None or node in found:
            continue
        found.add(node)
        left.extend(value.producer() for value in node.inputs if value is not None)
    return found
