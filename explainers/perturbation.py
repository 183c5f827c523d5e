"""Images of which a mask says, pixel by pixel, how much is left to see."""

import torch
from torch import Tensor

LEVELS = 8
STRONGEST = 20 / 224  # standard deviation of the strongest blur, as a share of the image's shorter side


def blurred(images: Tensor) -> Tensor:
    """Each image, and more and more blurred versions of it.

    Level j is (1/Z) sum_v g(u - v) x(v), g a Gaussian with a standard deviation of j / 7 of the strongest, and Z the
    sum of its weights within the image.

    Args:
        images: x, shape (n, 3, height, width).

    Returns:
        Shape (n, 8, 3, height, width).
    """
    height, width = images.shape[2:]
    strongest = STRONGEST * min(height, width)
    levels = [images]
    for level in range(1, LEVELS):
        deviation = strongest * level / (LEVELS - 1)
        vertical, horizontal = (_gaussian(side, deviation).to(images) for side in (height, width))
        levels.append(vertical @ images @ horizontal.T)
    return torch.stack(levels, dim=1)


def faded(images: Tensor) -> Tensor:
    """Each image, and a black one: shape (n, 2, 3, height, width)."""
    return torch.stack([images, torch.zeros_like(images)], dim=1)


def _gaussian(side: int, deviation: float) -> Tensor:
    """Weights, shape (side, side); each row sums to 1."""
    places = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-((places[:, None] - places) ** 2) / (2 * deviation**2))
    return weights / weights.sum(dim=1, keepdim=True)


class Pyramid:
    """Levels of perturbation between which a mask chooses: where it is 1 the first one, where it is 0 the last.

    Attributes:
        like: a tensor with the dtype and the device of the levels.
    """

    def __init__(self, levels: Tensor) -> None:
        """Keep the levels, shape (images, levels, 3, height, width)."""
        self._levels, self._size = levels.shape[1], (levels.shape[3], levels.shape[4])
        # One row of three colours for each pixel of each level, so that one look-up fetches a pixel, and the images
        # that come out have their colours side by side, which makes convolutions faster.
        self._table = levels.permute(0, 1, 3, 4, 2).reshape(-1, levels.shape[2])
        self.like = self._table

    def __call__(self, images: Tensor, masks: Tensor) -> Tensor:
        """Perturbed images, linear in the mask between two levels, and differentiable with respect to it.

        Args:
            images: shape (n,), the index of each mask's image.
            masks: shape (n, height, width), in [0, 1].

        Returns:
            Shape (n, 3, height, width).
        """
        pixels = self._size[0] * self._size[1]
        depth = (1 - masks.flatten(1)) * (self._levels - 1)
        level = depth.detach().floor().clamp(0, self._levels - 2)
        places = (images[:, None] * self._levels + level.long()) * pixels + torch.arange(pixels, device=images.device)
        near, far = (self._table[each.flatten()].view(len(masks), pixels, -1) for each in (places, places + pixels))
        mixed = near + (depth - level)[:, :, None] * (far - near)
        return mixed.view(len(masks), *self._size, -1).permute(0, 3, 1, 2)
