"""Networks whose answers can be worked out by hand, and evidence about them."""

from typing import Any

import torch
from torch import Tensor, nn

from explainers import Network
from quality import Evidence

ZERO_ONE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class Redness(nn.Module):
    """The probability of class 0 is the mean of the red pixels, that of class 1 is the rest."""

    def forward(self, x: Tensor) -> Tensor:
        red = x[:, 0].mean(dim=(1, 2)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([red, 1 - red], dim=1).log()


class RedObject(nn.Module):
    """Logit 0 is 6 times the red inside the middle of the image less 3 times the green around it; logit 1 is 2."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        inside = middle(x.shape[2], x.device)
        red = x[:, 0, inside].mean(dim=1)
        green = x[:, 1, ~inside].mean(dim=1)
        return torch.stack([self.scale * (6 * red - 3 * green), torch.full_like(red, 2)], dim=1)


def middle(side: int = 12, device: torch.device | str = "cpu") -> Tensor:
    """The pixels of the middle half of each side, shape (side, side), bool."""
    near = (torch.arange(side, device=device) >= side // 4) & (torch.arange(side, device=device) < side - side // 4)
    return near[:, None] & near


def toy(model: nn.Module, size: tuple[int, int]) -> Network:
    """A model without a normalisation, ready to explain."""
    return Network(model, input_size=size, **ZERO_ONE)  # type: ignore[arg-type]


def reddish(red: list[list[float]]) -> Tensor:
    """One image of these red pixels, and half green and blue ones."""
    plane = torch.tensor(red)
    return torch.stack([plane, torch.full_like(plane, 0.5), torch.full_like(plane, 0.5)])[None]


def seen(saliency: list[list[float]], red: list[list[float]] | None = None, **further: Any) -> Evidence:
    """Evidence of one map of class 0 of one reddish image, as large as the map."""
    maps = torch.tensor(saliency)[None]
    red = red or [[0.5] * maps.shape[2]] * maps.shape[1]
    return Evidence(reddish(red), ((0,),), maps, network=toy(Redness(), (maps.shape[1], maps.shape[2])), **further)


def boxes(*rows: list[list[float]]) -> tuple[Tensor, ...]:
    """Boxes for each row."""
    return tuple(torch.tensor(row).reshape(-1, 4) for row in rows)
