"""From pixels to what a model takes."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Normalisation:
    """(pixels - mean) / std, for each channel.

    Attributes:
        mean: shape (1, channels, 1, 1), in the model's dtype, on its device.
        std: as `mean`.
        statistics: mean and std as they were given.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype, device: torch.device) -> None:
        self.statistics = tuple(mean), tuple(std)
        with torch.inference_mode(False):
            self.mean, self.std = self._tensors(dtype, device)

    def __call__(self, images: Tensor, dtype: torch.dtype | None, memory_format: torch.memory_format) -> Tensor:
        """Images in [0, 1], normalised on the model's device: in its dtype and `memory_format`, or in another dtype."""
        device = self.mean.device
        if dtype is None or dtype == self.mean.dtype:
            # From pinned memory the processor goes on while the images are on their way to a GPU.
            aside = device.type != "cpu"
            placed = images.to(device, self.mean.dtype, non_blocking=aside, memory_format=memory_format)
            return (placed - self.mean) / self.std
        mean, std = self._tensors(dtype, device)
        return (images.to(device=device, dtype=dtype) - mean) / std

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Black and white as the model takes them, each of shape (1, channels, 1, 1)."""
        return -self.mean / self.std, (1 - self.mean) / self.std

    def _tensors(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(row, dtype=dtype, device=device).view(1, -1, 1, 1) for row in self.statistics)
        return mean, std
