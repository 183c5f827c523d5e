"""How a module's output is laid out in space, and how to see it as (batch, channels, height, width)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Size = tuple[int, int]

MOST_PREFIX_TOKENS = 64  # class token, distillation token, registers, prompts


@dataclass(frozen=True)
class Layout:
    """Where space is in a tensor.

    Attributes:
        kind: channels_first (B, K, h, w), channels_last (B, h, w, K) or tokens (B, prefix + h w, K).
        channels: K.
        height: h.
        width: w.
        prefix: number of tokens before those of the image.
    """

    kind: Literal["channels_first", "channels_last", "tokens"]
    channels: int
    height: int
    width: int
    prefix: int = 0

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.height, self.width

    def grid(self, tensor: Tensor) -> Tensor:
        """`tensor` as (B, K, h, w), without copying where a view will do."""
        if self.kind == "channels_first":
            return tensor
        if self.kind == "channels_last":
            return tensor.permute(0, 3, 1, 2)
        patches = tensor[:, self.prefix :].transpose(1, 2)  # splitting the last dimension stays a view
        return patches.reshape(*patches.shape[:2], *self.size)

    def restore(self, grid: Tensor, tensor: Tensor) -> Tensor:
        """`tensor` with `grid` for its grid: a new tensor that may be written, what lies outside the grid as it was.

        Args:
            grid: shape (n, K, h, w).
            tensor: laid out so, with a batch of n or of 1.
        """
        grid = grid.to(tensor.dtype)
        if self.kind == "channels_first":
            return grid.clone()
        if self.kind == "channels_last":
            return grid.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
        prefix = tensor[:, : self.prefix].expand(len(grid), -1, -1)
        return torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)


class GridFinder:
    """Tells which shapes are spatial maps, from the sizes that a network is known to work with.

    A shape alone can't tell (B, K, h, w) from an attention matrix or from channels last. Sizes can: a map is as large
    as the output of some convolution, or such a size divided by a whole stride. Without convolutions, the input's size
    is divided.
    """

    def __init__(self, input_size: Size, convolution_sizes: Iterable[Size]) -> None:
        self._convolution_sizes = [size for size in dict.fromkeys(convolution_sizes) if size != (1, 1)]
        if self._convolution_sizes:
            self._divided_sizes = set().union(*map(_divisions, self._convolution_sizes))
        else:
            self._divided_sizes = _exact_divisions(input_size)

    def layout(self, shape: tuple[int, ...]) -> Layout | None:
        """The layout of a tensor of this shape, or None when it is not a spatial map of more than one cell."""
        if len(shape) == 4:
            return self._image_layout(shape)
        if len(shape) == 3:
            return self._token_layout(shape)
        return None

    def _image_layout(self, shape: tuple[int, ...]) -> Layout | None:
        _, a, b, c = shape
        for sizes in (self._convolution_sizes, self._divided_sizes):
            if (b, c) in sizes:
                return Layout("channels_first", channels=a, height=b, width=c)
            if (a, b) in sizes:
                return Layout("channels_last", channels=c, height=a, width=b)
        return None

    def _token_layout(self, shape: tuple[int, ...]) -> Layout | None:
        _, tokens, channels = shape
        for sizes in (self._convolution_sizes, self._divided_sizes):
            prefixes = [(tokens - height * width, height, width) for height, width in sizes]
            fitting = [entry for entry in prefixes if 0 <= entry[0] <= min(MOST_PREFIX_TOKENS, entry[1] * entry[2])]
            if fitting:
                prefix, height, width = min(fitting)
                return Layout("tokens", channels=channels, height=height, width=width, prefix=prefix)
        return None


def _divisions(size: Size) -> set[Size]:
    """`size` over every stride, rounded down and up, without the single cell."""
    height, width = size
    strides = range(1, max(size) + 1)
    floors = {(height // stride, width // stride) for stride in strides}
    ceilings = {(-(-height // stride), -(-width // stride)) for stride in strides}
    return {(h, w) for h, w in floors | ceilings if h * w > 1}


def _exact_divisions(size: Size) -> set[Size]:
    height, width = size
    strides = [stride for stride in range(1, min(size) + 1) if height % stride == 0 and width % stride == 0]
    return {(height // stride, width // stride) for stride in strides} - {(1, 1)}
