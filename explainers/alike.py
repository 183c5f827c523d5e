"""Modules that give each row of a batch, to the last bit, what torch gives that row alone on a CPU.

Torch chooses how to compute a layer by its shapes, and the number of images is one of them.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from explainers.arranged import Arrangement
from explainers.shadow import replace_module

MOST_WEIGHTS = 2**22  # of a linear layer: 16 MiB in float32, so that reading them for each row doesn't cost much
SMALL_MAP = 20480  # values of a single image up to which torch doesn't take oneDNN, as it does for two
WORTH_STARTING = 16384  # values from which oneDNN takes a single image little longer than torch's own way


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
    """A convolution that takes small maps in the same way whether it gets one or several.

    Torch takes oneDNN for several, which is faster then, and its own way for one. Here the size of the maps decides,
    and not their number: oneDNN where it takes a single one little longer. In torch's own way several are faster than
    one by one, which has the same bits too.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias  # not the module: its hooks would run twice
        self._size = list(convolution.kernel_size)
        self._stride, self._padding = list(convolution.stride), list(map(int, convolution.padding))
        self._rest = [cells - 1 - width for cells, width in zip(self._size, self._padding, strict=True)]
        # oneDNN is no faster for pointwise ones.
        self._turns = set(self._stride) == {1} and set(self._size) != {1} and min(self._rest) >= 0

    @staticmethod
    def can_replace(convolution: nn.Conv2d) -> bool:
        """Whether torch computes a convolution of a single small map otherwise than that of two."""
        plain = convolution.groups == 1 and set(convolution.dilation) == {1} and convolution.padding_mode == "zeros"
        small = min(convolution.kernel_size) <= 3 and not isinstance(convolution.padding, str)
        return type(convolution) is nn.Conv2d and plain and small

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, K, rows, columns)."""
        values = x.numel() // len(x) if x.dim() == 4 and len(x) else 0
        small = 0 < values <= SMALL_MAP and x.dtype == torch.float32  # in others torch makes no difference
        answer: Tensor
        if small and values >= WORTH_STARTING and self._turns:
            arguments = self.weight, self.bias, self._padding, self._turned, self._rest
            answer = _ByOneDnn.apply(x, *arguments)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        elif small and len(x) > 1:
            answer = torch.ops.aten.thnn_conv2d(x, self.weight, self._size, self.bias, self._stride, self._padding)
        else:
            answer = functional.conv2d(x, self.weight, self.bias, self._stride, self._padding)
        return answer

    @cached_property
    def _turned(self) -> Tensor:
        """Kernels of the way back, made when they are needed: they take the memory of the kernels."""
        turned = self.weight.detach().flip(2, 3).transpose(0, 1)
        return turned.contiguous(memory_format=torch.channels_last)


class _ByOneDnn(torch.autograd.Function):
    """A convolution of stride 1 by oneDNN, and its gradient: a convolution with the kernels turned round.

    Autograd would take the gradient for one small map in torch's own way.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], turned: Tensor, rest: list[int]
    ) -> Tensor:
        ctx.way_back = turned, rest
        return torch.mkldnn_convolution(x, weight, bias, padding, [1, 1], [1, 1], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        turned, rest = ctx.way_back
        of_x = torch.mkldnn_convolution(gradient, turned, None, rest, [1, 1], [1, 1], 1)
        return of_x, None, None, None, None, None


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
