"""The end of a graph, from the feature map to the logits, as modules of torch: where it is a chain of common layers.

Methods that need the gradient of the logits with respect to that map, and no other, then work as on any network.
Whether the modules compute what the graph does is for the caller to check.
"""

from collections.abc import Callable, Sequence
from typing import Any

import onnx
import torch
from onnx import NodeProto, TensorProto
from torch import Tensor, nn

from runtimes.onnx_file import OnnxFile

Weights = list[Tensor | None]
"""A node's inputs beside the activation; None for what is computed."""


class _UnknownLayerError(Exception):
    """The chain has a layer that is not in the table."""


class _Bias(nn.Module):
    """A constant that is added to what a linear layer returns."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = bias


def torch_head(file: OnnxFile, start: str) -> nn.Sequential | None:
    """What leads from the tensor `start` to the logits; None where it is no chain of layers in the table below."""
    nodes = file.nodes(start, file.logits)
    constants = _constants(file, nodes)
    chain: list[nn.Module] = []
    current = start
    while current != file.logits:
        users = [node for node in nodes if current in node.input and node.op_type != "Shape"]
        if len(users) != 1 or users[0].input[0] != current or users[0].op_type not in _LAYERS:
            return None
        (node,) = users
        weights = [constants.get(name) for name in node.input[1:] if name]
        try:
            for module in _LAYERS[node.op_type](node, weights, file):
                _append(chain, module)
        except _UnknownLayerError:
            return None
        current = node.output[0]
    return nn.Sequential(*chain).eval()


def _append(chain: list[nn.Module], module: nn.Module) -> None:
    """Add a layer; a bias becomes part of the linear layer before it."""
    if not isinstance(module, _Bias):
        chain.append(module)
        return
    linear = chain[-1] if chain else None
    _require(isinstance(linear, nn.Linear) and linear.bias is None and linear.out_features == module.bias.numel())
    assert isinstance(linear, nn.Linear)  # noqa: S101  # just required
    linear.bias = _frozen(module.bias.flatten())


def _constants(file: OnnxFile, nodes: Sequence[NodeProto]) -> dict[str, Tensor]:
    """The stored numbers that some nodes use."""
    used = {name for node in nodes for name in node.input}
    stored = {tensor.name: tensor for tensor in file.model.graph.initializer if tensor.name in used}
    for node in nodes:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = node.attribute[0].t
        if node.op_type == "Identity" and node.input[0] in stored:  # exporters keep equal weights once
            stored[node.output[0]] = stored[node.input[0]]
    return {name: _tensor(tensor) for name, tensor in stored.items()}


def _tensor(tensor: TensorProto) -> Tensor:
    return torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of a weight of shape (outputs, inputs)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = _frozen(weight.contiguous())
    if bias is not None:
        _require(bias.numel() == len(weight))
        linear.bias = _frozen(bias.flatten())
    return linear


def _gemm(node: NodeProto, weights: Weights, _file: OnnxFile) -> list[nn.Module]:
    given = _attributes(node)
    weight = _matrix(weights[0])
    _require((given.get("alpha", 1), given.get("beta", 1), given.get("transA", 0)) == (1, 1, 0))
    return [_linear(weight if given.get("transB", 0) else weight.T, _optional(weights))]


def _mat_mul(_node: NodeProto, weights: Weights, _file: OnnxFile) -> list[nn.Module]:
    return [_linear(_matrix(weights[0]).T, None)]


def _add(_node: NodeProto, weights: Weights, _file: OnnxFile) -> list[nn.Module]:
    return [_Bias(_known(weights[0]))]


def _conv(node: NodeProto, weights: Weights, _file: OnnxFile) -> list[nn.Module]:
    given, weight, bias = _attributes(node), _known(weights[0]), _optional(weights)
    _require(weight.dim() == 4 and _is_explicit(given))
    kernel: Any = tuple(weight.shape[2:])
    module = nn.Conv2d(
        weight.shape[1] * given.get("group", 1),
        len(weight),
        kernel,
        given.get("strides", 1),
        _padding(given),
        given.get("dilations", 1),
        given.get("group", 1),
        bias is not None,
        device="meta",
    )
    module.weight = _frozen(weight)
    module.bias = None if bias is None else _frozen(bias)
    return [module]


def _mean(node: NodeProto, weights: Weights, _file: OnnxFile) -> list[nn.Module]:
    given = _attributes(node)
    axes = given["axes"] if "axes" in given else _known(weights[0] if weights else None).tolist()
    _require({axis % 4 for axis in axes} == {2, 3})
    return [nn.AdaptiveAvgPool2d(1), *([] if given.get("keepdims", 1) else [nn.Flatten(1)])]


def _average(node: NodeProto, _weights: Weights, _file: OnnxFile) -> list[nn.Module]:
    given = _attributes(node)
    _require(_is_explicit(given) and not any(given.get("pads", ())) and given.get("dilations", [1, 1]) == [1, 1])
    return [nn.AvgPool2d(given["kernel_shape"], given.get("strides", 1), 0, bool(given.get("ceil_mode", 0)))]


def _maximum(node: NodeProto, _weights: Weights, _file: OnnxFile) -> list[nn.Module]:
    given = _attributes(node)
    _require(_is_explicit(given))
    sizes = given["kernel_shape"], given.get("strides", 1), _padding(given), given.get("dilations", 1)
    return [nn.MaxPool2d(*sizes, ceil_mode=bool(given.get("ceil_mode", 0)))]


def _flatten(node: NodeProto, _weights: Weights, file: OnnxFile) -> list[nn.Module]:
    """Of Flatten, Reshape and Squeeze: what makes one row of an image."""
    _require(len(file.shapes.get(node.output[0], ())) == 2)
    return [nn.Flatten(1)]


def _plain(*modules: type[nn.Module]) -> "_Builder":
    return lambda _node, _weights, _file: [module() for module in modules]


def _global_average(_node: NodeProto, _weights: Weights, _file: OnnxFile) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1)]


_Builder = Callable[[NodeProto, Weights, OnnxFile], list[nn.Module]]
_LAYERS: dict[str, _Builder] = {
    "Add": _add,
    "AveragePool": _average,
    "Conv": _conv,
    "Dropout": _plain(),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "HardSwish": _plain(nn.Hardswish),
    "Identity": _plain(),
    "MatMul": _mat_mul,
    "MaxPool": _maximum,
    "ReduceMean": _mean,
    "Relu": _plain(nn.ReLU),
    "Reshape": _flatten,
    "Squeeze": _flatten,
}


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _is_explicit(given: dict[str, Any]) -> bool:
    """Whether the padding is written down."""
    return bool(given.get("auto_pad", b"NOTSET") == b"NOTSET")


def _padding(given: dict[str, Any]) -> tuple[int, int]:
    top, left, bottom, right = given.get("pads", [0] * 4)
    _require((top, left) == (bottom, right))
    return top, left


def _known(weight: Tensor | None) -> Tensor:
    if weight is None:
        raise _UnknownLayerError
    return weight


def _matrix(weight: Tensor | None) -> Tensor:
    matrix = _known(weight)
    _require(matrix.dim() == 2)
    return matrix


def _optional(weights: Weights) -> Tensor | None:
    """The bias, which may be left out."""
    return _known(weights[1]) if len(weights) > 1 else None


def _frozen(weight: Tensor) -> nn.Parameter:
    _require(weight.dtype == torch.float32)
    return nn.Parameter(weight, requires_grad=False)


def _require(condition: bool) -> None:
    if not condition:
        raise _UnknownLayerError
