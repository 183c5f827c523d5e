"""Superpixels: an image in pieces of similar colour that can be hidden, each by itself."""

import dataclasses
from typing import Self

import torch
from torch import Tensor

# SLIC's own settings: how much nearness counts against likeness of colour, and the deviation in pixels of a blur before
# it. Without a blur, it makes a single piece of an image of noise.
COMPACTNESS, BLUR = 20.0, 1.0
GREY = 0.5
BASELINES = ("grey", "black", "superpixel_mean")


@dataclasses.dataclass(frozen=True)
class Superpixels:
    """An image with its pieces, and what is seen in place of those that are hidden.

    Attributes:
        image: shape (3, height, width), in [0, 1].
        labels: shape (height, width), int64: the piece of each pixel, from 0, none left out. On the image's device.
        hidden: what a hidden pixel looks like: broadcasts with `image`.
    """

    image: Tensor
    labels: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, image: Tensor, segments: int, baseline: str) -> Self:
        """Divide an image.

        Args:
            image: shape (3, height, width), in [0, 1].
            segments: about how many pieces to make.
            baseline: one of `BASELINES`: grey 0.5, or black, or the mean colour of the piece itself.
        """
        labels = segment(image, segments)
        if baseline == "superpixel_mean":
            hidden = _mean_colours(image.cpu(), labels)  # there, because sums on a GPU differ from run to run
        else:
            hidden = torch.full((3, 1, 1), GREY if baseline == "grey" else 0.0)
        return cls(image, labels.to(image.device), hidden.to(image))

    @property
    def count(self) -> int:
        """Number of pieces."""
        return int(self.labels.max()) + 1

    def show(self, coalitions: Tensor) -> Tensor:
        """The image with some pieces visible and the others hidden.

        Args:
            coalitions: shape (n, count), bool: which pieces can be seen.

        Returns:
            Shape (n, 3, height, width).
        """
        visible = coalitions.to(self.labels.device)[:, self.labels]
        return torch.where(visible[:, None], self.image, self.hidden)


def segment(image: Tensor, segments: int) -> Tensor:
    """SLIC, Achanta et al. 2012, in CIELAB, by scikit-image.

    Args:
        image: shape (3, height, width), in [0, 1]. Where a pixel is not finite it counts as black.
        segments: about how many pieces to make; there may be fewer or more, for each is connected and the smallest
            are joined to others.

    Returns:
        Shape (height, width), int64, on the CPU: labels from 0 to the number of pieces - 1.
    """
    from skimage.segmentation import slic  # here, because it takes longer to import than many workers ever need it

    pixels = image.detach().cpu().double().nan_to_num(0, 0, 0).clamp(0, 1).permute(1, 2, 0).numpy()
    labels = slic(pixels, n_segments=segments, compactness=COMPACTNESS, sigma=BLUR, start_label=0)
    consecutive: Tensor = torch.unique(torch.from_numpy(labels), return_inverse=True)[1]
    return consecutive


def _mean_colours(image: Tensor, labels: Tensor) -> Tensor:
    """`image`, on the CPU, with the mean colour of its piece in each pixel: float64."""
    flat = labels.flatten()
    sums = torch.zeros(3, int(flat.max()) + 1, dtype=torch.float64)
    sums = sums.index_add(1, flat, image.flatten(1).double())
    return (sums / flat.bincount())[:, labels]
