"""A small residual network with global average pooling. Self-contained: model archives carry a copy of this file."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them.

    The two ReLUs are separate modules out of place, so that a recorder can tell them apart and keep what went in.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU(inplace=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride), never negative."""
        inner = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(inner + self.shortcut(x))
        return out


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride)
    rest = [ResidualBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class DigitsCNN(nn.Module):
    """Residual CNN, global average pooling, one linear head: class activation maps of it are exact.

    Input (N, 3, 96, 96) float, RGB scaled to [0, 1] and then normalised with mean 0.5 and standard deviation 0.5 per
    channel. The last feature map, out of `stages[-1]`, is (N, 96, 12, 12). Output (N, classes) logits.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=False),
        )
        self.stages = nn.Sequential(
            _stage(24, 24, blocks=1, stride=1),
            _stage(24, 48, blocks=2, stride=2),
            _stage(48, 96, blocks=2, stride=2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(96, classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, 96, 96) -> (N, 96, 12, 12), the map that the head averages."""
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 96, 96) normalised images -> (N, classes) logits."""
        logits: Tensor = self.head(torch.flatten(self.pool(self.forward_features(x)), 1))
        return logits
