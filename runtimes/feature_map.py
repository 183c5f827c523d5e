"""Finds, in a graph from images to logits, the feature map to explain."""

from collections.abc import Iterator

from onnx import NodeProto

from explainers.grid import Size
from runtimes.onnx_file import OnnxFile

CONVOLUTION = "Conv"
LINEAR = frozenset({"Gemm", "MatMul"})


def waists(file: OnnxFile) -> dict[str, int]:
    """The tensors that all of the logits' dependence on the image goes through, with the position of their nodes.

    The graph can be cut in two at each of them; at others, a connection goes around the cut.
    """
    nodes = _way(file)
    if any(attribute.HasField("g") or attribute.graphs for node in nodes for attribute in node.attribute):
        return {}  # a branch or a loop may use tensors that its node does not name
    last_use = {name: position for position, node in enumerate(nodes) for name in node.input}
    alive = {file.image}
    found: dict[str, int] = {}
    for position, node in enumerate(nodes):
        alive = {name for name in (*alive, *node.output) if last_use.get(name, -1) > position}
        if len(alive) == 1:
            found.setdefault(next(iter(alive)), position)
    found.pop(file.image, None)
    return found


def find_map(file: OnnxFile, class_count: int) -> str | None:
    """The last convolutional feature map before the classifier; None where there is none, as in a transformer.

    It is what the last convolution's map has become before its size changes. A convolution whose maps are the class
    scores themselves is the classifier.
    """
    nodes = _way(file)
    end, weighted_after = len(nodes), False
    for position in reversed(range(len(nodes))):
        node = nodes[position]
        size = _size(file, node.output[0])
        if node.op_type == CONVOLUTION and size is not None and size != (1, 1):
            if weighted_after or file.shapes[node.output[0]][1] != class_count:
                return _last(file, position, end, size)
            end = position
        weighted_after |= node.op_type == CONVOLUTION or node.op_type in LINEAR
    return None


def _last(file: OnnxFile, start: int, end: int, size: Size) -> str | None:
    """The last map of a size that is made from position `start` on, and before `end`."""
    # Behind linear layers that work on each place are tokens: the convolutions were those of the patches.
    by_place = [position for position, node in enumerate(_way(file)) if _is_by_place(file, node)]
    start = max([start, *(position for position in by_place if position < end)])
    grown = [name for name, place in waists(file).items() if start <= place < end]
    return next((name for name in reversed(grown) if _size(file, name) == size), None)


def convolution_sizes(file: OnnxFile) -> tuple[Size, ...]:
    """(height, width) of the outputs of all convolutions."""
    sizes = (_size(file, node.output[0]) for node in _way(file) if node.op_type == CONVOLUTION)
    return tuple(size for size in sizes if size is not None)


def _way(file: OnnxFile) -> list[NodeProto]:
    """The nodes between the image and the logits."""
    return list(_from_image(file, file.nodes(file.image, file.logits)))


def _from_image(file: OnnxFile, nodes: list[NodeProto]) -> Iterator[NodeProto]:
    reached = {file.image}
    for node in nodes:
        if not reached.isdisjoint(node.input):
            reached.update(node.output)
            yield node


def _size(file: OnnxFile, name: str) -> Size | None:
    """(height, width) of a tensor of shape (batch, channels, height, width)."""
    shape = file.shapes.get(name, ())
    if len(shape) != 4 or shape[2] is None or shape[3] is None:
        return None
    return shape[2], shape[3]


def _is_by_place(file: OnnxFile, node: NodeProto) -> bool:
    """Whether it is a linear layer that works on each place of a map."""
    return node.op_type in LINEAR and len(file.shapes.get(node.input[0], ())) > 2
