"""Modules that give each row of a batch, to the last bit, what torch gives that row alone on a CPU.

Torch chooses how to compute a layer by its shapes, and the number of images is one of them.
"""

import torch
from torch import Tensor, nn

from explainers.arranged import Arrangement
from explainers.shadow import replace_module

MOST_WEIGHTS = 2**22  # of a linear layer: 16 MiB in float32, so that reading them for each row doesn't cost much
SMALL_MAP = 20480  # values of a single image up to which torch doesn't take oneDNN, as it does for two


def with_rows_alike(shadow: nn.Module, arrangement: Arrangement) -> nn.Module:
    """An arrangement of a shadow, with other modules for the convolutions and linear layers that may need it.

    That serves most networks, not all: try whether it does (`explainers.rows.rounds_alike`).
    """
    arranged = arrangement(shadow)
    for path, module in list(arranged.named_modules()):
        if isinstance(module, nn.Conv2d) and SmallMaps.can_replace(module):
            replace_module(arranged, path, SmallMaps(module))
        elif isinstance(module, nn.Linear) and RowByRow.can_replace(module):
            replace_module(arranged, path, RowByRow(module))
    return arranged


class SmallMaps(nn.Module):
    """A convolution that takes several small maps as torch takes a single one, which is slower than oneDNN.

    It is faster than the maps one by one, which is the other way to have the same bits.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias  # not the module: its hooks would run twice
        self._stride, self._padding = list(convolution.stride), list(map(int, convolution.padding))

    @staticmethod
    def can_replace(convolution: nn.Conv2d) -> bool:
        """Whether torch computes a convolution of a single small map otherwise than that of two."""
        plain = convolution.groups == 1 and set(convolution.dilation) == {1} and convolution.padding_mode == "zeros"
        small = min(convolution.kernel_size) <= 3 and not isinstance(convolution.padding, str)
        return type(convolution) is nn.Conv2d and plain and small

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, K, rows, columns)."""
        several = x.dim() == 4 and len(x) > 1 and x[0].numel() <= SMALL_MAP
        if several and x.dtype == torch.float32:  # in others torch makes no difference
            size = list(self.weight.shape[2:])
            answer: Tensor = torch.ops.aten.thnn_conv2d(x, self.weight, size, self.bias, self._stride, self._padding)
            return answer
        return torch.nn.functional.conv2d(x, self.weight, self.bias, self._stride, self._padding)


class RowByRow(nn.Module):
    """A linear layer that rounds each row of a batch as it does that row alone. Other inputs go through as they are."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias  # not the layer: its hooks would run for each row

    @staticmethod
    def can_replace(layer: nn.Linear) -> bool:
        """Whether a layer is one that is not so large that reading it for each row costs much."""
        return type(layer) is nn.Linear and layer.weight.numel() <= MOST_WEIGHTS

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) to (batch, outputs)."""
        rows = torch.split(x, 1) if x.dim() == 2 and len(x) else (x,)
        return torch.cat([torch.nn.functional.linear(row, self.weight, self.bias) for row in rows])
