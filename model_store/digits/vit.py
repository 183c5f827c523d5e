"""A small vision transformer with plain softmax attention. Self-contained: model archives carry a copy of this file.

Module names are those of timm (`patch_embed`, `cls_token`, `pos_embed`, `blocks[i].attn.qkv`, ...), so that explainers
that know timm's transformers know this one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them: that of `DigitsCNN`, name by name."""

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


class PatchEmbed(nn.Module):
    """The first layers of `DigitsCNN` in place of one 8x8 patch projection: the same grid, from far fewer images.

    Stem and stages have the names and shapes of `DigitsCNN`'s, so that its trained weights fit.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.patch_size = 8
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=False),
        )
        self.stages = nn.Sequential(
            nn.Sequential(ResidualBlock(24, 24, 1)),
            nn.Sequential(ResidualBlock(24, 48, 2), ResidualBlock(48, 48, 1)),
        )
        self.proj = nn.Conv2d(48, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, H/8 * W/8, dim), patches row by row."""
        grid: Tensor = self.proj(self.stages(self.stem(x)))
        return grid.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention written out: every step can be recorded and differentiated.

    `attn_drop` drops nothing; it is the place where a hook sees the attention, (N, heads, tokens, tokens), rows summing
    to 1.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, dim) -> (N, tokens, dim)."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        mixed = self.attn_drop(attention) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, dim) -> (N, tokens, dim)."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block: attention, then the MLP, each added to its input."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, dim) -> (N, tokens, dim)."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class DigitsViT(nn.Module):
    """Vision transformer with a class token on a 12x12 grid of patches: 145 tokens of 96, 6 blocks of 3 heads.

    Input (N, 3, 96, 96) float, RGB scaled to [0, 1] and then normalised with mean 0.5 and standard deviation 0.5 per
    channel. Token 0 is the class token; the patches follow row by row. Output (N, classes) logits.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        dim, depth, num_heads, grid = 96, 6, 3, 12
        self.embed_dim = dim
        self.grid_size = (grid, grid)
        self.num_prefix_tokens = 1
        self.patch_embed = PatchEmbed(dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid * grid, dim))
        self.blocks = nn.Sequential(*(Block(dim, num_heads, hidden=2 * dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, 96, 96) -> (N, 145, 96), the tokens after the last norm."""
        patches = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1) + self.pos_embed
        out: Tensor = self.norm(self.blocks(tokens))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 96, 96) normalised images -> (N, classes) logits, read off the class token."""
        logits: Tensor = self.head(self.forward_features(x)[:, 0])
        return logits
