"""One forward pass that writes down what every module of a network does."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from explainers.opaque import Opaque


@dataclass
class ModuleCall:
    """One call of one module.

    Attributes:
        path: where the module is in the tree.
        module: the module.
        operations: names of the ATen operations that it runs itself, not through a child.
        active: whether it or a child runs any operation: False for an identity.
        output: what it returned; kept, so that its id stays its own.
        version: how often the output had been written in place by then. Two calls that return one tensor at one
            version return the same values.
    """

    path: str
    module: nn.Module
    operations: set[str] = field(default_factory=set)
    active: bool = False
    output: Any = None
    version: int = 0

    @property
    def identity(self) -> tuple[int, int]:
        """Equal for calls that returned the same values in the same tensor."""
        return id(self.output), self.version


@dataclass
class Trace:
    """What a forward pass did.

    Attributes:
        calls: in the order in which the modules returned.
        convolution_sizes: (height, width) of every convolution's output, in order.
        output: of the network.
    """

    calls: list[ModuleCall] = field(default_factory=list)
    convolution_sizes: list[tuple[int, int]] = field(default_factory=list)
    output: Any = None

    @property
    def leaves(self) -> tuple[str, ...]:
        """Paths of the modules without children, in the order in which they ran."""
        return tuple(call.path for call in self.calls if next(call.module.children(), None) is None)

    def forget_outputs(self) -> None:
        """Let the memory of the activations go."""
        self.output = None
        for call in self.calls:
            call.output = None


def trace(network: nn.Module, images: Tensor) -> Trace:
    """Run `network` once and write down every module call. Not thread-safe: hooks are on the modules meanwhile."""
    result = Trace()
    stack: list[ModuleCall] = []
    with torch.inference_mode(False), torch.no_grad(), _hooks(network, result, stack), _Operations(result, stack):
        result.output = network(images)
    return result


@contextmanager
def _hooks(network: nn.Module, result: Trace, stack: list[ModuleCall]) -> Iterator[None]:
    handles = []
    for path, module in network.named_modules():

        def enter(module: nn.Module, _inputs: Any, path: str = path) -> None:
            stack.append(ModuleCall(path, module))

        def leave(module: nn.Module, _inputs: Any, output: Any) -> None:
            call = stack.pop()
            call.output = output
            call.version = output._version if isinstance(output, Tensor) else 0
            if isinstance(module, Opaque):
                _note_opaque(call, module, result)
            if stack:
                stack[-1].active |= call.active
            result.calls.append(call)

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note_opaque(call: ModuleCall, module: Opaque, result: Trace) -> None:
    """Write down what it says of itself: its operations are not torch's."""
    call.active = True
    if module.convolution_sizes:
        call.operations.add("convolution")
        result.convolution_sizes += module.convolution_sizes


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its constructor untyped
    """Credits every ATen operation to the innermost module that is running."""

    def __init__(self, result: Trace, stack: list[ModuleCall]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._result = result
        self._stack = stack

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if self._stack:
            self._stack[-1].operations.add(name)
            self._stack[-1].active = True
        if "convolution" in name and isinstance(output, Tensor) and output.dim() == 4:
            self._result.convolution_sizes.append((output.shape[2], output.shape[3]))
        return output
