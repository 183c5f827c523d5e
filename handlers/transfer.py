"""Images on their way to the device."""

from collections.abc import Sequence

import torch
from torch import Tensor


def stack(images: Sequence[Tensor], device: torch.device) -> Tensor:
    """One batch, still on the CPU: for a GPU in pinned memory, from where it is copied while the processor goes on.

    Args:
        images: of one shape, float32.
        device: where they will be needed.
    """
    if device.type != "cuda":
        return torch.stack(tuple(images))
    pinned = torch.empty((len(images), *images[0].shape), dtype=images[0].dtype, pin_memory=True)
    return torch.stack(tuple(images), out=pinned)
