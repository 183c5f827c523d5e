"""Finds the ReLUs that a forward pass executed, in the graph that autograd recorded of it.

However a network calls ReLU (a module, a function, a method, in place, an operation of an exported program), autograd
writes down one of few nodes. The graph belongs to one pass, so what is put on its nodes reaches nobody else: no module,
no other pass, no other thread.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from explainers.errors import NotApplicableError

RELU6_BOUND = 6
COMPILED = "CompiledFunctionBackward"
# What may write a rectified value over its input; a trailing underscore is left out.
_FUNCTIONS = frozenset({"relu", "relu6", "hardtanh", "clamp", "clamp_min", "clip"})

Gate = Callable[[Tensor], Tensor]
"""What R_out goes through before the ordinary backward of a ReLU, so that it becomes 1[z>0] 1[R_out>0] R_out."""


class VisibleRectifiers(TorchFunctionMode):
    """While active in this thread, ReLUs in place on a view leave a node in the graph as all others do.

    Autograd would hide them: it records an operation in place on a view as one of the whole tensor. Here they work on
    a copy, which is then written to the view. The values are the same.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensor = _input(args, kwargs) if _name(func) in _FUNCTIONS else None
        if tensor is None or not tensor._is_view():
            return func(*args, **kwargs)
        copy = tensor.clone()
        args = tuple(copy if value is tensor else value for value in args)
        kwargs = {key: copy if value is tensor else value for key, value in kwargs.items()}
        result = func(*args, **kwargs)
        return tensor.copy_(copy) if result is copy else result


def rectifiers(output: Tensor) -> list[tuple[Node, Gate]]:
    """Every ReLU and ReLU6 that `output` depends on in a differentiable way, with its gate.

    A clamp to at least 0, or from 0 to 6, is one too. Those inside an autograd.Function can't be seen.

    Raises:
        NotApplicableError: a part of the network runs compiled, and so hides the ReLUs that it may have.
    """
    nodes = list(_nodes(output))
    if any(node.name() == COMPILED for node in nodes):
        raise NotApplicableError("a part of the network is compiled by torch.compile: its ReLUs can't be guided")
    return [(node, gate) for node in nodes if (gate := _gate(node)) is not None]


def _nodes(output: Tensor) -> Iterator[Node]:
    waiting = [] if output.grad_fn is None else [output.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        new = {following for following, _ in node.next_functions if following is not None} - seen
        seen |= new
        waiting += new


def _gate(node: Node) -> Gate | None:
    """The gate of a node that is a rectifier; None for any other."""
    match node.name():
        case "ReluBackward0":
            return _positive
        case "HardtanhBackward0":
            return _positive if (_saved(node, "min_val"), _saved(node, "max_val")) == (0, RELU6_BOUND) else None
        case "ClampMinBackward0":
            return _clamp_gate(node) if _saved(node, "min") == 0 else None
        case "ClampBackward1":
            bounds = _saved(node, "min"), _saved(node, "max")
            return _clamp_gate(node) if bounds in ((0, None), (0, RELU6_BOUND)) else None
    return None


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)


def _clamp_gate(node: Node) -> Gate:
    """The same for a clamp, whose ordinary gradient is 1 also where z equals a bound."""

    def gate(gradient: Tensor) -> Tensor:
        z: Tensor = _saved(node, "self")
        bound = getattr(node, "_saved_max", None)
        inside = z > 0 if bound is None else (z > 0) & (z < bound)
        return gradient.clamp(min=0) * inside

    return gate


def _saved(node: Node, name: str) -> Any:
    return getattr(node, f"_saved_{name}")


def _name(func: Callable[..., Any]) -> str:
    """The name of a function, a method or an operation, without the underscore of those in place."""
    name: str = getattr(getattr(func, "overloadpacket", func), "__name__", "")
    return name.removesuffix("_")


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The first tensor among the arguments."""
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
