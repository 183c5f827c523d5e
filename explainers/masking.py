"""Masked forward passes: what a network says when it sees only a part of the image."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from explainers.maps import CONSTANT_TOLERANCE
from explainers.network import Network


def masked_logits(network: Network, images: Tensor, masks: Tensor) -> Tensor:
    """f(N(x * S)): the logits of images under masks, differentiable with respect to the masks.

    The mask is applied to pixels in [0, 1], before the network's own normalisation N: what is masked becomes black, not
    the mean colour.

    Args:
        network: the classifier f with its N.
        images: x, shape (n, 3, height, width), in [0, 1].
        masks: S, shape (n, height, width), in [0, 1].

    Returns:
        Shape (n, classes), in the network's precision, on its device.
    """
    return network.logits(images * masks[:, None])


def mask_gradient(of_masked: Tensor, images: Tensor) -> Tensor:
    """From the gradient with respect to x * S to that with respect to S, shape (n, height, width).

    Channel by channel: a sum over few channels that lie side by side takes a CPU three times as long.
    """
    of_masks = of_masked[:, 0] * images[:, 0]
    for channel in range(1, images.shape[1]):
        of_masks.addcmul_(of_masked[:, channel], images[:, channel])
    return of_masks


def min_max(maps: Tensor) -> Tensor:
    """Stretch each map to [0, 1] by its own minimum and maximum, differentiably; zero where it is constant.

    `explainers.normalise` does the same for the answer, and says which maps were constant.

    Args:
        maps: shape (n, height, width).
    """
    return Stretched.of(maps).maps


class Stretched(NamedTuple):
    """Maps stretched to [0, 1] as by `min_max`, and what their gradient needs.

    Attributes:
        source: the maps as they were, shape (n, height, width).
        minimum: of each, shape (n, 1, 1).
        maximum: of each.
        spread: from one to the other; infinite where they are the same.
        maps: (source - minimum) / spread.
    """

    source: Tensor
    minimum: Tensor
    maximum: Tensor
    spread: Tensor
    maps: Tensor

    @classmethod
    def of(cls, maps: Tensor) -> Self:
        """Stretch maps of shape (n, height, width)."""
        minimum, maximum = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
        spread = maximum - minimum
        constant = spread <= CONSTANT_TOLERANCE * torch.maximum(minimum.abs(), maximum.abs())
        spread = spread.masked_fill(constant, torch.inf)  # which takes them to zero, and their gradient too
        return cls(maps, minimum, maximum, spread, (maps - minimum) / spread)

    def gradient(self, gradient: Tensor) -> Tensor:
        """From the gradient with respect to `maps` to that with respect to `source`.

        Pixels that share the minimum, or the maximum, share its part of it. A third of autograd's operations.
        """
        of_source = gradient / self.spread
        total = of_source.sum(dim=(1, 2), keepdim=True)
        of_maximum = -(of_source * self.maps).sum(dim=(1, 2), keepdim=True)
        for extreme, share in ((self.minimum, -total - of_maximum), (self.maximum, of_maximum)):
            there = self.source == extreme
            of_source += there * (share / there.sum(dim=(1, 2), keepdim=True))
        return of_source


class Upsampling:
    """up(S) = V S H^T: bilinear, `align_corners=False`, as two small matrix products.

    The same values as `explainers.upsample`, but the gradient is two products as well, which costs a fraction of the
    scattered sums of the general operator and is the same on every run, also on a GPU.
    """

    def __init__(self, native: tuple[int, int], size: tuple[int, int], like: Tensor) -> None:
        """Prepare for maps of `native` (height, width), to be enlarged to `size`, with dtype and device of `like`."""
        self._vertical = bilinear_weights(native[0], size[0]).to(like)
        self._horizontal = bilinear_weights(native[1], size[1]).to(like)

    def __call__(self, maps: Tensor) -> Tensor:
        """Maps of shape (n, h, w) to shape (n, height, width)."""
        return self._vertical @ maps @ self._horizontal.T

    def gradient(self, of_enlarged: Tensor) -> Tensor:
        """From the gradient with respect to what `__call__` returns to that with respect to its maps."""
        return self._vertical.T @ of_enlarged @ self._horizontal


def bilinear_weights(cells: int, pixels: int) -> Tensor:
    """Weights, shape (pixels, cells): the centre of pixel i lies at (i + 1/2) cells / pixels - 1/2 on the grid."""
    position = (torch.arange(pixels, dtype=torch.float64) + 0.5) * cells / pixels - 0.5
    position = position.clamp(0, cells - 1)  # beyond the outermost centres their values go on
    distance = (position[:, None] - torch.arange(cells, dtype=torch.float64)).abs()
    return (1 - distance).clamp(min=0)
