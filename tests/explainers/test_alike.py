"""Modules that give each row of a batch the bits that it gets alone."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from explainers.alike import SMALL_MAP, WORTH_STARTING, RowByRow, SmallMaps
from tests.explainers.networks import ResidualCnn, ViT, network, pictures, prepare, vgg


def maps(count: int, channels: int = 16, side: int = 32) -> Tensor:
    """In the order of channels_last, as arranged networks get them."""
    noise = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))
    return noise.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("options", "by_onednn"),
    [
        ({"kernel_size": 3, "padding": 1}, True),
        ({"kernel_size": 3, "stride": 2, "bias": False}, False),
        ({"kernel_size": 1}, False),
        ({"kernel_size": (3, 5), "padding": (1, 2)}, True),
        ({"kernel_size": 3, "padding": 3}, False),
    ],
)
@pytest.mark.parametrize("side", [20, 32])
def test_small_maps(options: dict[str, Any], by_onednn: bool, side: int) -> None:
    """Output and gradient of each row are those of that row alone, to the last bit.

    They are those of the convolution too, but for the rounding of oneDNN where larger maps take it.
    """
    convolution = nn.Conv2d(16, 24, **options).requires_grad_(False)
    assert SmallMaps.can_replace(convolution)
    images = maps(3, side=side)
    together = _with_gradient(SmallMaps(convolution), images)
    assert all(map(torch.equal, together, _one_by_one(SmallMaps(convolution), images)))
    expected = _one_by_one(convolution, images)
    if by_onednn and images[0].numel() >= WORTH_STARTING:
        torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-5)
    else:
        assert all(map(torch.equal, together, expected))


@pytest.mark.parametrize("count", [1, 3])
def test_way_of_larger_small_maps(count: int) -> None:
    """One is taken as several are: by oneDNN, there and back."""
    convolution = nn.Conv2d(16, 24, 3, padding=1).requires_grad_(False)
    images = maps(count)
    assert WORTH_STARTING <= images[0].numel() <= SMALL_MAP
    with profile(activities=[ProfilerActivity.CPU]) as record:
        _with_gradient(SmallMaps(convolution), images)
    runs = {event.key: event.count for event in record.key_averages()}
    assert runs["aten::mkldnn_convolution"] == 2
    assert "aten::_slow_conv2d_forward" not in runs
    assert "aten::_slow_conv2d_backward" not in runs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    """As the convolution takes them, which makes no difference between one map and several."""
    convolution = nn.Conv2d(16, 24, 3).requires_grad_(False).to(dtype)
    together = SmallMaps(convolution)(maps(3).to(dtype))
    assert torch.equal(together, torch.cat([convolution(row) for row in torch.split(maps(3).to(dtype), 1)]))


def test_other_maps_as_they_are() -> None:
    """A large map and one without a batch: the convolution's own output."""
    convolution = nn.Conv2d(16, 4, 3)
    large = maps(2, side=36)
    assert large[0].numel() > SMALL_MAP
    for x in (large, maps(1)[0], maps(0)):
        assert torch.equal(SmallMaps(convolution)(x), convolution(x))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 5},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    ],
)
def test_not_replaced(options: dict[str, Any]) -> None:
    """What torch computes alike by itself, or the other way doesn't know."""
    assert not SmallMaps.can_replace(nn.Conv2d(16, 16, **options))


@pytest.mark.parametrize(
    ("build", "replaced"),
    [
        (ResidualCnn, {SmallMaps: 3, RowByRow: 1}),
        (vgg, {SmallMaps: 2, RowByRow: 2}),
        (ViT, {RowByRow: 1}),  # its patches and blocks have modules of their own by then
    ],
)
def test_what_is_replaced(build: Any, replaced: dict[type, int]) -> None:
    """Only where it was asked for."""
    net = network(prepare(build()))
    for rows_alike in (False, True):
        modules = net.for_many_passes(rows_alike=rows_alike)._shadow.modules()
        found = Counter(type(module) for module in modules)
        assert {kind: found[kind] for kind in (SmallMaps, RowByRow) if found[kind]} == (replaced if rows_alike else {})


@pytest.mark.parametrize("build", [ResidualCnn, vgg])
def test_rows_of_a_small_network(build: Any) -> None:
    """Logits and gradients of each image are those that it has alone, to the last bit."""
    alike = network(prepare(build())).for_many_passes(rows_alike=True)
    images = pictures(4)
    assert all(map(torch.equal, _with_gradient(alike.logits, images), _one_by_one(alike.logits, images)))


def test_hooks_run_once() -> None:
    """The caller's, on all rows, as they did."""
    model = prepare(ResidualCnn())
    sizes: list[int] = []
    for module in (model.head, model.stem):
        module.register_forward_hook(lambda _module, _inputs, output: sizes.append(len(output)))  # type: ignore[union-attr]
    many = network(model).for_many_passes(rows_alike=True)
    sizes.clear()
    many.predict(pictures(3))
    assert sizes == [3, 3]


class Curious(ResidualCnn):
    """Reads what a module has besides its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.head.in_features / self.stem.out_channels


def test_modules_that_are_read() -> None:
    """Where a network wants its own modules, it keeps them."""
    net = network(prepare(Curious()))
    many = net.for_many_passes(rows_alike=True)
    assert not any(isinstance(module, SmallMaps | RowByRow) for module in many._shadow.modules())
    torch.testing.assert_close(many.predict(pictures()), net.predict(pictures()), rtol=1e-5, atol=1e-5)


def _with_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone(memory_format=torch.channels_last).requires_grad_()
    output = function(x)
    (gradient,) = torch.autograd.grad(output.square().sum(), x)
    return output.detach(), gradient


def _one_by_one(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    outputs, gradients = zip(*(_with_gradient(function, row) for row in torch.split(x, 1)), strict=True)
    return torch.cat(outputs), torch.cat(gradients)
