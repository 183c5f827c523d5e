"""One forward pass, written down operation by operation.

A dispatch mode sees every operation of PyTorch's core (aten) on its way to the device, whether a module, a functional
call or an exported program asked for it. It lives on the calling thread alone and puts nothing on the network.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

HOLE = object()
"""Stands in a step's arguments where something computed from the image was."""

CONSTANT = "constant"
"""Operator of the step that made the logits, when they don't come from the image."""


@dataclasses.dataclass(eq=False)
class Step:
    """One result of one operation.

    Attributes:
        operator: its name, without the underscore of the form that writes in place; "image" for what the network gets.
        function: the operator in the form that doesn't write in place; None where there is no such form.
        arguments: positional arguments, with HOLE for each source.
        keywords: arguments by name; likewise.
        sources: the steps that it takes, in the order of the holes.
        values: what the sources held then; empty where the caller of `record` doesn't need it.
        shape: of the result.
        index: which result of an operation that has several; None where it has one.
    """

    operator: str
    function: Callable[..., Any] | None
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    sources: tuple[Self, ...]
    values: list[Tensor]
    shape: torch.Size
    index: int | None = None

    def run(self, *values: Tensor) -> Tensor:
        """The operation again, on other values of its sources."""
        if self.function is None:
            raise TypeError(f"{self.operator} can't be run again")
        supply = iter(values)
        arguments = [_fill(argument, supply) for argument in self.arguments]
        result = self.function(*arguments, **{name: _fill(each, supply) for name, each in self.keywords.items()})
        chosen: Tensor = result if self.index is None else result[self.index]
        return chosen


@dataclasses.dataclass(frozen=True)
class Tape:
    """A recorded forward pass.

    Attributes:
        image: what went in, the only step without sources.
        value: the normalised batch, for its shape, precision and layout: the network may have written into it.
        output: the step that made the logits.
        logits: shape (batch, classes).
    """

    image: Step
    value: Tensor
    output: Step
    logits: Tensor

    def way(self) -> list[Step]:
        """The steps that lead to the logits, each after its sources."""
        order: list[Step] = []
        seen: set[Step] = set()
        pending = [(self.output, False)]
        while pending:
            step, done = pending.pop()
            if done:
                order.append(step)
            elif step not in seen:
                seen.add(step)
                pending.append((step, True))
                pending += [(source, False) for source in step.sources]
        return order


def record(network: nn.Module, inputs: Tensor, forget: Collection[str] = ()) -> Tape:
    """Run a network once, without gradients, and write down what it does with its input.

    Args:
        network: in eval mode.
        inputs: a batch as the network takes it.
        forget: operators whose inputs need not be kept.
    """
    with torch.inference_mode(False), torch.no_grad():
        recorder = _Recorder(inputs, forget)
        with recorder:
            logits = network(inputs)
    output = recorder.step_of(logits) or Step(CONSTANT, None, (), {}, (), [], logits.shape)
    return Tape(recorder.image, inputs, output, logits)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows everything that is computed from one tensor.

    Tensors are known by their identity, so all are kept until the pass is over. An operation may write into one: then
    values on the tape that share its memory are copied before, and every other view of that memory is out of date.
    """

    def __init__(self, inputs: Tensor, forget: Collection[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.image = Step("image", None, (), {}, (), [], inputs.shape)
        self._forget = forget
        self._clock = 0
        self._known: dict[int, tuple[Tensor, Step, int]] = {id(inputs): (inputs, self.image, 0)}
        self._written: dict[int, tuple[Tensor, int]] = {}
        self._kept: dict[int, list[list[Tensor]]] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the operation, if anything in it comes from the image, and run it."""
        keywords = kwargs or {}
        inputs = [each for each in _tensors((*args, *keywords.values())) if self.step_of(each) is not None]
        if not inputs:
            return func(*args, **keywords)
        self._clock += 1
        written = _written(func, args, keywords)
        steps = [step for step in map(self.step_of, inputs) if step is not None]
        operator, function = _functional(func, bool(written))
        values = [] if operator in self._forget else list(inputs)
        draft = Step(
            operator,
            function,
            tuple(self._punch(each) for each in args),
            {name: self._punch(each) for name, each in keywords.items()},
            tuple(steps),
            values,
            inputs[0].shape,
        )
        self._keep(values)
        self._protect(written)
        result = func(*args, **keywords)
        self._note(draft, result, inputs, written)
        return result

    def step_of(self, tensor: Tensor) -> Step | None:
        """The step that made a tensor; None when it doesn't come from the image."""
        _, step, time = self._known.get(id(tensor), (None, None, -1))
        if time < self._written.get(_memory(tensor), (None, -1))[1]:
            return Step("view of a tensor written in place", None, (), {}, (), [], tensor.shape)
        return step

    def _punch(self, argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [self._punch(each) for each in argument]
        return HOLE if isinstance(argument, Tensor) and self.step_of(argument) is not None else argument

    def _keep(self, values: list[Tensor]) -> None:
        for memory in set(map(_memory, values)):
            self._kept.setdefault(memory, []).append(values)

    def _protect(self, written: Sequence[Tensor]) -> None:
        """Give the tape copies of its own of what is about to be written."""
        for memory in map(_memory, written):
            for values in self._kept.pop(memory, []):
                values[:] = [each.clone() if _memory(each) == memory else each for each in values]

    def _note(self, draft: Step, result: Any, inputs: Sequence[Tensor], written: Sequence[Tensor]) -> None:
        for tensor in written:
            self._written[_memory(tensor)] = tensor, self._clock
            self._know(tensor, dataclasses.replace(draft, shape=tensor.shape))
        several = isinstance(result, list | tuple)
        for index, each in enumerate(result if several else (result,)):
            new = isinstance(each, Tensor) and not any(each is old for old in (*inputs, *written))
            if new:
                self._know(each, dataclasses.replace(draft, shape=each.shape, index=index if several else None))

    def _know(self, tensor: Tensor, step: Step) -> None:
        self._known[id(tensor)] = tensor, step, self._clock


def _functional(func: OpOverload, writes: bool) -> tuple[str, Callable[..., Any] | None]:
    """Name and function of the form that doesn't write; the function is None where there is none."""
    namespace, _, name = func._schema.name.partition("::")
    if namespace != "aten":
        return func._schema.name, None
    if not writes:
        return name, func
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.endswith("_") else None
    function = getattr(packet, func._overloadname, None)
    return (name, None) if function is None else (name.removesuffix("_"), function)


def _written(func: OpOverload, args: tuple[Any, ...], keywords: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation writes into."""
    written = []
    for position, parameter in enumerate(func._schema.arguments):
        if parameter.alias_info is not None and parameter.alias_info.is_write:
            value = args[position] if position < len(args) else keywords.get(parameter.name)
            written += list(_tensors((value,)))
    return written


def _memory(tensor: Tensor) -> int:
    """The same for all views of one piece of memory."""
    return int(tensor.untyped_storage()._cdata)


def _tensors(arguments: Sequence[Any]) -> Iterator[Tensor]:
    for each in arguments:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)


def _fill(argument: Any, supply: Iterator[Tensor]) -> Any:
    if isinstance(argument, list):
        return [_fill(each, supply) for each in argument]
    return next(supply) if argument is HOLE else argument
