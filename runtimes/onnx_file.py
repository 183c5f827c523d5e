"""An ONNX file with an image classifier: what it must be, read without reading anything beside it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.utils import Extractor

from explainers.grid import Size
from runtimes.errors import GraphError

BATCH = "batch"
# What may stand at the end in place of the logits, and which activation of a manifest it is.
ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
PASSING = frozenset({"Identity", "Dropout"})


@dataclass(frozen=True)
class OnnxFile:
    """A graph from images to logits, with every shape that can be told.

    Attributes:
        model: the whole of it.
        image: name of its input, shape (batch, 3, height, width), float32.
        logits: name of the tensor with the logits, shape (batch, classes).
        applied: the activation that the file applies behind it: "softmax" or "sigmoid"; None: none.
        shapes: of every tensor for which they are known; None for a side that is not fixed.
    """

    model: ModelProto
    image: str
    logits: str
    applied: str | None
    shapes: dict[str, tuple[int | None, ...]]

    def part(self, start: str, end: str) -> bytes:
        """The graph from one tensor to another as a file of its own, for any batch.

        Raises:
            GraphError: it can't be cut there.
        """
        try:
            cut = Extractor(self.model).extract_model([start], [end])
            del cut.graph.value_info[:]  # the file's own shapes, perhaps those of a fixed batch
            for value in (*cut.graph.input, *cut.graph.output):
                _free_batch(value)
            return bytes(cut.SerializeToString())
        except Exception as error:  # the library's own have no common base
            raise GraphError(f"the graph cannot be cut at {start} and {end}: {error}") from error

    def nodes(self, start: str, end: str) -> list[NodeProto]:
        """The nodes of such a part, in the order of execution."""
        return list(Extractor(self.model)._collect_reachable_nodes([start], [end]))


def read(path: Path, size: Size) -> OnnxFile:
    """Read a file.

    Args:
        path: of the file.
        size: (height, width) of the images that it will get.

    Raises:
        GraphError: it is damaged, wants data of other files, or is no classifier of images.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # those of protobuf, and whatever lies behind them
        raise GraphError(f"the ONNX file cannot be read: {type(error).__name__}") from None
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise GraphError("the ONNX file keeps weights in other files: export it with all of them inside")
    image = _image(model, size)
    logits, applied = _logits(model)
    del model.graph.value_info[:]
    _free_batch(image)
    for side, length in zip(image.type.tensor_type.shape.dim[2:], size, strict=True):
        side.dim_value = length
    _free_batch(model.graph.output[0])
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise GraphError(f"the ONNX file does not fit together: {type(error).__name__}") from error
    return OnnxFile(model, image.name, logits, applied, _shapes(model))


def _image(model: ModelProto, size: Size) -> ValueInfoProto:
    """The one input."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise GraphError(f"the ONNX file must have one input, the images, and has {len(inputs)}")
    image, tensor = inputs[0], inputs[0].type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise GraphError(f"the input {image.name} must be float32, and is {kind}: export the network in float32")
    shape = _shape(image)
    if len(shape) != 4:
        raise GraphError(f"the input {image.name} must have shape (batch, 3, height, width), and has {shape}")
    if shape[3] == 3 and shape[1] != 3:
        raise GraphError(f"the input {image.name} has its colours last: export it as (batch, 3, height, width)")
    if any(fixed not in (None, wanted) for fixed, wanted in zip(shape[1:], (3, *size), strict=True)):
        raise GraphError(f"the input {image.name} takes {shape[1:]}, and preprocessing.size makes {(3, *size)}")
    return image


def _logits(model: ModelProto) -> tuple[str, str | None]:
    """The tensor with the logits, and the activation that follows it."""
    outputs = model.graph.output
    if len(outputs) != 1:
        raise GraphError(f"the ONNX file must have one output, the logits, and has {len(outputs)}")
    if outputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise GraphError(f"the output {outputs[0].name} must be a tensor of float32")
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(outputs[0].name)
    while node is not None and node.op_type in PASSING:
        node = makers.get(node.input[0])
    if node is None or node.op_type not in ACTIVATIONS:
        return outputs[0].name, None
    return node.input[0], ACTIVATIONS[node.op_type]


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Every stored tensor: of the graph, its nodes, its functions, however deep."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(each)


def _free_batch(value: ValueInfoProto) -> None:
    shape = value.type.tensor_type.shape
    if shape.dim:
        shape.dim[0].dim_param = BATCH


def _shapes(model: ModelProto) -> dict[str, tuple[int | None, ...]]:
    known = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {value.name: _shape(value) for value in known if value.type.tensor_type.HasField("shape")}


def _shape(value: ValueInfoProto) -> tuple[int | None, ...]:
    sides = value.type.tensor_type.shape.dim
    return tuple(side.dim_value if side.HasField("dim_value") else None for side in sides)
