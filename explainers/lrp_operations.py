"""What the operations on a tape mean for relevance."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from explainers.lrp_tape import CONSTANT, HOLE, Step, Tape


class Kind(enum.Enum):
    """How relevance goes back through an operation."""

    COPY = enum.auto()
    """The same values: passed on."""
    RECTIFIER = enum.auto()
    """ReLU and its kin: passed on."""
    DIAGONAL = enum.auto()
    """Each value scaled and shifted by constants: passed on, the shift takes nothing."""
    NORM = enum.auto()
    """Batch normalisation in eval mode: part of the layer in front of it; elsewhere as DIAGONAL."""
    MOVE = enum.auto()
    """Values in other places, or left out, or zeros between them: goes back to where they came from."""
    MAXIMUM = enum.auto()
    """Max pooling: the winner takes all."""
    UNWEIGHTED = enum.auto()
    """Sums and averages: a rule shares it out."""
    LAYER = enum.auto()
    """Convolution or linear: a rule shares it out."""


KINDS = (
    dict.fromkeys(("alias", "clone", "detach", "lift_fresh", "_to_copy"), Kind.COPY)
    | dict.fromkeys(("relu", "hardtanh", "clamp", "clamp_min"), Kind.RECTIFIER)
    | dict.fromkeys(("add", "sub", "mul", "div", "neg"), Kind.DIAGONAL)  # of two values: a sum, or no rule
    | dict.fromkeys(
        ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit_no_training"),
        Kind.NORM,
    )
    | dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "expand"), Kind.MOVE)
    | dict.fromkeys(("permute", "transpose", "t", "flip", "roll", "pixel_shuffle", "pixel_unshuffle"), Kind.MOVE)
    | dict.fromkeys(("cat", "stack", "split", "split_with_sizes", "unbind", "select", "slice"), Kind.MOVE)
    | dict.fromkeys(("constant_pad_nd",), Kind.MOVE)
    | dict.fromkeys(("max_pool2d_with_indices", "adaptive_max_pool2d"), Kind.MAXIMUM)
    | dict.fromkeys(("avg_pool2d", "_adaptive_avg_pool2d", "mean", "sum"), Kind.UNWEIGHTED)
    | dict.fromkeys(("convolution", "mm", "addmm"), Kind.LAYER)
)

FORGETTABLE = frozenset(name for name, kind in KINDS.items() if kind in (Kind.COPY, Kind.RECTIFIER, Kind.NORM)) | {
    "sub",
    "mul",
    "div",
    "neg",
}
"""Operators whose inputs no rule asks for."""


def kind_of(step: Step) -> Kind | None:
    """How relevance goes back through a step; None when there is no rule."""
    kind = KINDS.get(step.operator)
    if kind is None or step.function is None:
        return None
    if kind is Kind.DIAGONAL and len(step.sources) == 2:
        return Kind.UNWEIGHTED if step.operator == "add" and step.keywords.get("alpha", 1) == 1 else None
    check = _CHECKS.get(step.operator, _CHECKS.get(kind))
    return kind if check is None or check(step) else None


def _one_hole(position: int) -> Callable[[Step], bool]:
    """Whether the only thing that comes from the image is this argument."""
    return lambda step: len(step.sources) == 1 and step.arguments[position] is HOLE


def _argument(step: Step, position: int, default: Any) -> Any:
    return step.arguments[position] if position < len(step.arguments) else default


def _from_zero(default: float | None) -> Callable[[Step], bool]:
    def check(step: Step) -> bool:
        lowest = _argument(step, 1, step.keywords.get("min", default))
        return isinstance(lowest, int | float) and lowest == 0

    return check


def _zeros(step: Step) -> bool:
    return bool(_argument(step, 2, step.keywords.get("value", 0)) == 0)


def _own_statistics(step: Step) -> bool:
    """Whether batch normalisation uses what it learnt, not the batch."""
    learnt = step.operator.endswith("no_training") or step.arguments[5] is False
    return learnt and _one_hole(0)(step) and not step.keywords


def _value_by_value(step: Step) -> bool:
    constants_only = len(step.sources) == 1 and not (step.operator == "div" and step.arguments[0] is not HOLE)
    return constants_only and step.shape == step.sources[0].shape and "rounding_mode" not in step.keywords


_CHECKS: dict[str | Kind, Callable[[Step], bool]] = {
    "hardtanh": _from_zero(-1),
    "clamp": _from_zero(None),
    "clamp_min": _from_zero(None),
    "constant_pad_nd": _zeros,
    "convolution": lambda step: _one_hole(0)(step) and not step.keywords and step.arguments[6] is False,
    "mm": _one_hole(0),
    "addmm": lambda step: _one_hole(1)(step) and not step.keywords and step.arguments[0].dim() == 1,
    Kind.NORM: _own_statistics,
    Kind.DIAGONAL: _value_by_value,
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer.

    Attributes:
        apply: (input, weight) to the output without the bias.
        weight: output channels first for a convolution, last for a linear layer.
        bias: (1, output channels), with as many further dimensions of size 1 as the output has.
        dense: it is a linear layer.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    weight: Tensor
    bias: Tensor
    dense: bool

    def contributions(self, x: Tensor) -> Tensor:
        """What the inputs add up to: the output without the bias."""
        return self.apply(x, self.weight)

    def signed(self, up: Tensor, down: Tensor | None = None) -> Tensor:
        """The same with the positive weights for `up` and the negative ones for `down`."""
        total = self.apply(up, self.weight.clamp(min=0))
        return total if down is None else total + self.apply(down, self.weight.clamp(max=0))

    def negated(self) -> Self:
        """The layer with the opposite weights."""
        return dataclasses.replace(self, weight=-self.weight)


def layer_of(step: Step, dtype: torch.dtype) -> Layer:
    """The layer that a step of kind LAYER applies, in a precision."""
    if step.operator == "convolution":
        _, weight, bias, *rest = step.arguments
        apply, channels = lambda x, w: torch.ops.aten.convolution(x, w, None, *rest), len(weight)
    else:
        weight, bias = step.arguments[-1], step.arguments[0] if step.operator == "addmm" else None
        apply, channels = torch.mm, weight.shape[1]
    bias = weight.new_zeros(channels) if bias is None else bias.expand(channels)
    dense = step.operator != "convolution"
    return Layer(apply, weight.to(dtype), _by_channel(bias.to(dtype), len(step.shape)), dense)


def fold(layer: Layer, norm: Step) -> Layer:
    """A layer with the batch normalisation behind it as one layer: w' = w g, b' = (b - mean) g + shift."""
    _, gain, shift, mean, variance = norm.arguments[:5]

    def fit(values: Tensor) -> Tensor:
        return _by_channel(values.to(layer.weight), layer.bias.dim())

    scale = torch.rsqrt(fit(variance) + norm.arguments[-1])
    scale = scale if gain is None else scale * fit(gain)
    bias = (layer.bias - fit(mean)) * scale
    weight = layer.weight * (scale if layer.dense else scale.transpose(0, 1))
    return dataclasses.replace(layer, weight=weight, bias=bias if shift is None else bias + fit(shift))


def obstacle(tape: Tape) -> str | None:
    """Why relevance can't go back over a tape, as a sentence; None when it can."""
    names = {step.operator.strip("_") for step in tape.way() if step is not tape.image and kind_of(step) is None}
    if names == {CONSTANT}:
        return "the logits don't depend on the image"
    return f"relevance propagation has no rule for {', '.join(sorted(names))}" if names else None


def _by_channel(values: Tensor, dimensions: int) -> Tensor:
    """One value for each channel, laid out to meet a tensor of so many dimensions."""
    return values.view(1, -1, *[1] * (dimensions - 2))
