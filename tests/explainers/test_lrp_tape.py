"""The tape: that it holds what an operation got, whatever is written over it later."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explainers.lrp_operations import FORGETTABLE, obstacle
from explainers.lrp_tape import Tape, record

INPUTS = torch.arange(24.0).view(2, 3, 2, 2) - 12
WEIGHT = torch.arange(9.0).view(3, 3, 1, 1) - 4


class Network(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def tape_of(function: Callable[[Tensor], Tensor]) -> Tape:
    """The tape of a function, its input as it was."""
    return record(Network(function), INPUTS.clone(), FORGETTABLE)


def operators(tape: Tape) -> list[str]:
    """Names of the operations on the way."""
    return [step.operator for step in tape.way()]


def convolve(x: Tensor) -> Tensor:
    return nn.functional.conv2d(x, WEIGHT)


def overwritten(x: Tensor) -> Tensor:
    """Writes over what a convolution and a sum have used."""
    total = convolve(x) + convolve(convolve(x).relu_())
    x.zero_()
    first = total * 1
    total += first
    total.clamp_(min=0)
    return total.mean(dim=(2, 3))


def test_values_are_those_at_use() -> None:
    """Running every step again on what the tape holds gives what the next step got, and at the end the logits."""
    tape = tape_of(overwritten)
    assert operators(tape).count("convolution") == 3
    assert obstacle(tape) is None
    results = {tape.image: INPUTS}
    for step in tape.way()[1:]:
        values = [results[source] for source in step.sources]
        for value, kept in zip(values, step.values, strict=False):
            assert torch.equal(value, kept)
        results[step] = step.run(*values)
        assert results[step].shape == step.shape
    assert torch.equal(results[tape.output], tape.logits)


def test_operations_in_place_have_the_name_of_the_others() -> None:
    """A sum is a sum, however it is written."""
    tape = tape_of(lambda x: (convolve(x).relu_().add_(x)).sum(dim=(2, 3)))
    assert operators(tape) == ["image", "convolution", "relu", "add", "sum"]


def test_a_view_may_be_written_and_used() -> None:
    """What was written is known by the view that wrote it, and by views made of that."""
    tape = tape_of(lambda x: (x * 1).view(2, 12).relu_().view(2, 3, 4).mean(dim=2))
    assert operators(tape) == ["image", "mul", "view", "relu", "view", "mean"]
    assert obstacle(tape) is None


def write_a_part(x: Tensor) -> Tensor:
    """Uses the whole after a view of its half was written."""
    whole = x * 1
    whole[:, :2].relu_()
    return convolve(whole).mean(dim=(2, 3))


def fill_a_buffer(x: Tensor) -> Tensor:
    """Puts the image into a tensor that did not come from it."""
    buffer = torch.zeros(2, 3, 4, 4)
    buffer[:, :, 1:3, 1:3] = x
    return buffer.mean(dim=(2, 3))


def write_elsewhere(x: Tensor) -> Tensor:
    """Has an operation write its result into a tensor that is there."""
    buffer = torch.zeros(2, 3, 2, 2)
    torch.add(x, x, out=buffer)
    return buffer.mean(dim=(2, 3))


@pytest.mark.parametrize("function", [write_a_part, fill_a_buffer, write_elsewhere])
def test_what_can_not_be_followed_is_an_obstacle(function: Callable[[Tensor], Tensor]) -> None:
    """Relevance would take a wrong way, or none: no rule is better."""
    assert "no rule for" in str(obstacle(tape_of(function)))


def test_several_results_are_several_steps() -> None:
    """Each piece of a split is followed by itself."""
    tape = tape_of(lambda x: x.split(1, dim=1)[2].mean(dim=(2, 3)))
    assert [step.index for step in tape.way()] == [None, 2, None]
    assert torch.equal(tape.way()[1].run(INPUTS), INPUTS[:, 2:])


def test_recording_ends_with_the_pass() -> None:
    """Neither a success nor a failure leaves the mode on, and nothing is recorded on other threads' behalf."""
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("refused")

    tape_of(overwritten)
    with pytest.raises(RuntimeError, match="refused"):
        tape_of(fail)
    assert not _get_current_dispatch_mode_stack()
