"""Batch normalisation's gradient."""

import pytest
import torch
from torch import Tensor, nn

from explainers.batch_norm import ExactBatchNorm2d, make_exact
from tests.explainers.networks import network, pictures, prepare


class Tokens(nn.Module):
    """A convolution and a normalisation as patch embedding, and a mean of weighted tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6))
        self.weights = nn.Parameter(torch.randn(64, 6))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.patch(x).flatten(2).transpose(1, 2) * self.weights).mean(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2])
def test_gradient(count: int, dtype: torch.dtype) -> None:
    """A linear function's gradient is the same everywhere: it is found from two values."""
    net = network(prepare(Tokens()).to(dtype))
    images = pictures(count).to(dtype)
    gradient = gradient_of(net.logits, images)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    reference = network(prepare(Tokens()).double())
    moved = reference.logits(images.double() + direction)[:, 2] - reference.logits(images.double())[:, 2]
    torch.testing.assert_close((gradient.double() * direction).sum(dim=(1, 2, 3)), moved, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient_of(net.for_many_passes().logits, images), gradient, rtol=1e-4, atol=1e-6)


def test_only_torchs_own() -> None:
    """What is derived from it keeps its class."""

    class Own(nn.BatchNorm2d):
        pass

    tree = nn.Sequential(nn.BatchNorm2d(2), Own(2))
    make_exact(tree)
    assert [type(child) for child in tree] == [ExactBatchNorm2d, Own]


def gradient_of(logits: object, images: Tensor) -> Tensor:
    """Of one class with respect to the pixels."""
    pixels = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(logits(pixels)[:, 2].sum(), pixels)  # type: ignore[operator]
    return gradient
