"""An upright image to the network's input, and the way back from coordinates of a map to pixels of the image."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_store.schema import Preprocessing

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# A strip of 1 x 50000 pixels would be resized to 224 x 11 million before the middle is cut out.
_MAX_RESIZED_PIXELS = 32_000_000

Size = tuple[int, int]


@dataclass(frozen=True)
class Affine:
    """x' = scale_x x + offset_x and y' = scale_y y + offset_y: nothing here rotates.

    Both sides use continuous coordinates: the pixel in row i and column j covers [j, j + 1) x [i, i + 1).
    """

    scale_x: float
    offset_x: float
    scale_y: float
    offset_y: float

    def after_grid(self, grid: Size, input_size: Size) -> "Affine":
        """The same for coordinates of a (height, width) grid that covers the network's input."""
        return Affine(
            self.scale_x * input_size[1] / grid[1], self.offset_x, self.scale_y * input_size[0] / grid[0], self.offset_y
        )


@dataclass(frozen=True)
class Geometry:
    """How an image of one size is brought to the network's input.

    Attributes:
        resized: (height, width) that the whole image is scaled to.
        top: first row of `resized` that the network sees.
        left: first column.
        size: (height, width) of the network's input.
    """

    resized: Size
    top: int
    left: int
    size: Size

    def to_image(self, image: Size) -> Affine:
        """From the network's input to pixels of an upright image of (height, width) `image`."""
        scale_x, scale_y = image[1] / self.resized[1], image[0] / self.resized[0]
        return Affine(scale_x, self.left * scale_x, scale_y, self.top * scale_y)


def geometry(image: Size, preprocessing: Preprocessing) -> Geometry:
    """Sizes and offsets for an image of (height, width); rounded as torchvision's Resize and CenterCrop do."""
    height, width = preprocessing.size
    if preprocessing.short_side is None:
        return Geometry((height, width), 0, 0, (height, width))
    shorter, longer = sorted(image)
    long_side = int(preprocessing.short_side * longer / shorter)
    is_portrait = image[1] <= image[0]
    resized = (long_side, preprocessing.short_side) if is_portrait else (preprocessing.short_side, long_side)
    top, left = round((resized[0] - height) / 2), round((resized[1] - width) / 2)
    return Geometry(resized, top, left, (height, width))


def to_input(image: Image.Image, plan: Geometry, preprocessing: Preprocessing) -> Tensor:
    """What the network sees, before its normalisation: `to_tensor` of `to_size`, which names the arguments."""
    return to_tensor(to_size(image, plan, preprocessing))


def to_size(image: Image.Image, plan: Geometry, preprocessing: Preprocessing) -> Image.Image:
    """What the network sees, as an image of its size.

    Args:
        image: mode RGB, upright.
        plan: `geometry` of its size.
        preprocessing: that `plan` was made with.
    """
    return _resize_and_crop(image, plan, _FILTERS[preprocessing.interpolation])


def to_tensor(seen: Image.Image) -> Tensor:
    """An image of the network's size, mode RGB, as shape (3, height, width), float32 in [0, 1]."""
    array = np.asarray(seen, np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def _resize_and_crop(image: Image.Image, plan: Geometry, resampling: Image.Resampling) -> Image.Image:
    height, width = plan.size
    if plan.resized[0] * plan.resized[1] > _MAX_RESIZED_PIXELS:
        # The same but for rounding, without the pixels that the crop throws away.
        way = plan.to_image((image.height, image.width))
        right, bottom = way.offset_x + width * way.scale_x, way.offset_y + height * way.scale_y
        box = (way.offset_x, way.offset_y, min(right, image.width), min(bottom, image.height))
        return image.resize((width, height), resampling, box=box)
    resized = image.resize((plan.resized[1], plan.resized[0]), resampling)
    return resized.crop((plan.left, plan.top, plan.left + width, plan.top + height))
