"""Small classifiers that have, each, one thing that explaining must get right."""

import torch
from torch import Tensor, nn

from explainers import Network

MEAN = (0.4, 0.5, 0.6)
STD = (0.2, 0.25, 0.3)


class ResidualCnn(nn.Module):
    """Convolutions, a residual sum and ReLUs written in place, global average pooling, one linear layer."""

    def __init__(self, channels: int = 6, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.stage = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.stage(torch.relu(self.stem(x)))).flatten(1))


class ResidualBlock(nn.Module):
    """As in ResNet: the normalised map is written in place by the sum, and the sum by the ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        out += x
        return self.relu(out)


def vgg(classes: int = 5) -> nn.Module:
    """Convolution, normalisation and in-place ReLU in one sequence, and a classifier that sees every cell."""
    features = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
    classifier = nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(inplace=True), nn.Linear(16, classes))
    return nn.Sequential(features, classifier)


def fully_convolutional(classes: int = 5) -> nn.Module:
    """As SqueezeNet: the last convolution makes one map for each class."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(6, classes, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class ViT(nn.Module):
    """A pre-norm vision transformer with a class token, registers, or neither (then the mean of the patches)."""

    def __init__(
        self, input_size: tuple[int, int] = (32, 32), *, class_token: bool = True, registers: int = 0, classes: int = 5
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, stride=8)
        self.prefix_count = int(class_token) + registers
        tokens = (input_size[0] // 8) * (input_size[1] // 8)
        self.prefix = nn.Parameter(torch.randn(1, self.prefix_count, 8))
        self.position = nn.Parameter(0.1 * torch.randn(1, tokens + self.prefix_count, 8))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, classes)
        self.class_token = class_token

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), patches], dim=1) + self.position
        tokens = self.norm(self.blocks(tokens))
        pooled = tokens[:, 0] if self.class_token else tokens[:, self.prefix_count :].mean(dim=1)
        return self.head(pooled)


class Block(nn.Module):
    """One transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class ChannelsLast(nn.Module):
    """As Swin: patches stay (batch, height, width, channels) up to the pooling."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 7, 4, stride=4)
        self.merge = nn.Linear(4 * 7, 12)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        x = torch.cat([x[:, a::2, b::2] for a in (0, 1) for b in (0, 1)], dim=-1)
        return self.head(self.norm(torch.relu(self.merge(x))).mean(dim=(1, 2)))


def perceptron(classes: int = 5, size: tuple[int, int] = (32, 32)) -> nn.Module:
    """No spatial map at all."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size[0] * size[1], 16), nn.ReLU(), nn.Linear(16, classes))


class Undifferentiable(ResidualCnn):
    """Runs its trunk without gradients: no pixel has one."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.stage(torch.relu(self.stem(x)))
        return self.head(self.pool(x).flatten(1))


class Refusing(nn.Module):
    """Raises behind its feature map when a pixel is larger than any pixel can be."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ResidualCnn()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.body(x)
        if x.max() > 100:
            raise RuntimeError("refused")
        return logits


class RefusingViT(ViT):
    """A transformer that does so before its first block."""

    def forward(self, x: Tensor) -> Tensor:
        if x.max() > 100:
            raise RuntimeError("refused")
        return super().forward(x)


def prepare(model: nn.Module, input_size: tuple[int, int] = (32, 32), seed: int = 0) -> nn.Module:
    """`model` with seeded weights and statistics of batch normalisation that are not the identity, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, *input_size))  # lazy layers get their shape
        for name, tensor in sorted(model.state_dict().items()):
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / max(1, tensor[0].numel()) ** 0.5)
    return model


def network(model: nn.Module, input_size: tuple[int, int] = (32, 32), **options: object) -> Network:
    """`model` ready to explain."""
    return Network(model, input_size=input_size, mean=MEAN, std=STD, **options)  # type: ignore[arg-type]


def pictures(count: int = 3, input_size: tuple[int, int] = (32, 32), seed: int = 1) -> Tensor:
    """Seeded pixels in [0, 1]."""
    return torch.rand(count, 3, *input_size, generator=torch.Generator().manual_seed(seed))
