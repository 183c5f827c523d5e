"""Boxes and masks on the way that the image took: from its pixels to those of the network's input."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.errors import EvaluationError
from evaluation.items import ArrayMask, Box, Item, Mask, Pixels, Region
from handlers.preprocess import Affine, Size
from quality import Need


@dataclass(frozen=True)
class View:
    """What the network sees of an image.

    Attributes:
        to_image: from coordinates of the network's input to pixels of the upright image.
        size: (height, width) of the network's input.
        image: (height, width) of the upright image.
    """

    to_image: Affine
    size: Size
    image: Size

    def boxes(self, boxes: Sequence[Box]) -> Tensor:
        """Boxes in pixels of the network's input, cut off at its edges; those outside of it are left out.

        Args:
            boxes: in pixels of the upright image.

        Returns:
            Shape (n, 4), float64.
        """
        way, (height, width) = self.to_image, self.size
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        x = ((corners[:, 0::2] - way.offset_x) / way.scale_x).clip(0, width)
        y = ((corners[:, 1::2] - way.offset_y) / way.scale_y).clip(0, height)
        seen = (x[:, 1] > x[:, 0]) & (y[:, 1] > y[:, 0])
        return torch.from_numpy(np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)[seen])

    def mask(self, pixels: Pixels) -> Tensor:
        """A mask of the network's input: each of its pixels is what the image's pixel under its centre is.

        Args:
            pixels: shape (height, width) of the upright image.

        Returns:
            Shape (height, width) of the input, bool.
        """
        way = self.to_image
        rows = _places(self.size[0], way.scale_y, way.offset_y, self.image[0])
        columns = _places(self.size[1], way.scale_x, way.offset_x, self.image[1])
        return torch.from_numpy(pixels[rows[:, None], columns])


def _places(count: int, scale: float, offset: float, limit: int) -> NDArray[np.intp]:
    places = np.floor((np.arange(count) + 0.5) * scale + offset)
    inside: NDArray[np.intp] = places.clip(0, limit - 1).astype(np.intp)
    return inside


def with_truth(item: Item, image: Size, needs: Collection[Need]) -> Item:
    """An item with its masks in memory, and no more of its ground truth than is needed.

    Args:
        item: with masks in files.
        image: (height, width) of its upright image.
        needs: what is to be measured.

    Raises:
        EvaluationError: a mask can't be read, or is not as large as the image.
    """
    regions = []
    for region in item.regions:
        boxes = region.boxes if Need.BOXES in needs else ()
        mask = region.mask if Need.MASKS in needs or boxes is None else None
        if mask is not None:
            mask = ArrayMask(_load(mask, image))
        if boxes is None:
            boxes = () if mask is None else tight_box(mask.pixels)
        regions.append(Region(region.classes, boxes, mask))
    return replace(item, regions=tuple(regions))


def _load(mask: Mask, image: Size) -> Pixels:
    pixels = mask.load()
    if pixels.shape != image:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (pixels.shape, image)]
        raise EvaluationError(f"the mask has {sizes[0]} pixels, the image {sizes[1]}")
    return pixels


def boxes_of(item: Item, target: int, view: View) -> Tensor:
    """The boxes of the objects of a class, shape (n, 4), in pixels of the network's input."""
    return view.boxes([box for region in item.regions if region.shows(target) for box in region.boxes or ()])


def mask_of(item: Item, target: int, view: View) -> Tensor:
    """The pixels of all objects of a class, shape (height, width) of the input; none where no mask is known."""
    whole = torch.zeros(view.size, dtype=torch.bool)
    for region in item.regions:
        if region.shows(target) and region.mask is not None:
            whole |= view.mask(region.mask.load())
    return whole


def tight_box(pixels: Pixels) -> tuple[Box, ...]:
    """The box around all that is set, on the edges of pixels; none where nothing is."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return ()
    return ((float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)),)
