"""A network with any form of ReLU, the same made of modules, and the forms there are."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody writes it
from torch import Tensor, nn

from explainers import METHODS, Classes, Explanation, Network
from tests.explainers.networks import pictures

ALL = Classes(tuple(range(5)))
Activation = Callable[[Tensor], Tensor]

RELUS: dict[str, Activation] = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu in place by name": lambda x: F.relu(input=x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": Tensor.relu,
    "method in place": Tensor.relu_,
    "clamp": lambda x: x.clamp(min=0),
    "clamp in place": lambda x: x.clamp_(0),
    "clip": lambda x: torch.clip(x, 0),
    "clamp_min": lambda x: x.clamp_min(0.0),
    "clamp_min in place": lambda x: x.clamp_min_(0),
    "operation": torch.ops.aten.relu.default,
    "operation in place": torch.ops.aten.relu_.default,
}
RELU6S: dict[str, Activation] = {
    "module": nn.ReLU6(),
    "module in place": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "F.relu6 in place": lambda x: F.relu6(x, inplace=True),
    "F.hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "F.hardtanh in place": lambda x: F.hardtanh(x, 0.0, 6.0, inplace=True),
    "clamp": lambda x: x.clamp(0, 6),
    "clamp in place": lambda x: x.clamp_(0, 6),
    "operation": lambda x: torch.ops.aten.hardtanh.default(x, 0, 6),
}


class Rectified(nn.Module):
    """Two convolutions, and a classifier that sees every cell, with any activation in between."""

    def __init__(self, activation: Activation, *, views: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.body = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.hidden = nn.Linear(6 * 8 * 8, 16)
        self.head = nn.Linear(16, 5)
        self.activation = activation
        self.views = views

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.stem, self.body):
            x = convolution(x)
            # A view on a part of a tensor, written in place, changes that part of it.
            x = self._part_by_part(x) if self.views else self.activation(x)
        return self.head(self.activation(self.hidden(x.flatten(1))))

    def _part_by_part(self, x: Tensor) -> Tensor:
        first = self.activation(x[:, :2])
        return torch.cat([first, self.activation(x[:, 2:].transpose(2, 3)).transpose(2, 3)], dim=1) + 0 * x


class Steps(nn.Sequential):
    """The same network with modules alone."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        stem, body = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, stride=2, padding=1)
        tail = (nn.Flatten(), nn.Linear(6 * 8 * 8, 16), activation(), nn.Linear(16, 5))
        super().__init__(stem, activation(), body, activation(), *tail)


def weighted(model: nn.Module, scale: float = 1.0) -> nn.Module:
    """Seeded weights, the same for `Rectified` and `Steps`, whose scores are spread by `scale`."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(scale * torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
    return model.eval()


def explain(name: str, net: Network, **parameters: object) -> list[Explanation]:
    """The explanations of every class of one image."""
    method = METHODS[name](**parameters)  # type: ignore[call-arg]
    return list(method.explain(net, pictures(1, net.input_size), [ALL])[0].explanations)
