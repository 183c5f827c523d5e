"""Batch normalisation with the gradient that it should have."""

import torch
from torch import Tensor, nn


class ExactBatchNorm2d(nn.BatchNorm2d):
    """As torch's, whose gradient of a single image on a CPU is wrong where it becomes tokens.

    There the gradient arrives with the channels innermost, as (1, C, H, W) with strides (C, 1, W C, C), and torch 2.13
    reads it as it reads the maps. So it is brought into their order first.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(batch, channels, height, width) to the same."""
        output = super().forward(input)
        if output.requires_grad and output.device.type == "cpu" and _is_one(output) and output.is_contiguous():
            output.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return output


def make_exact(module: nn.Module) -> None:
    """Let the batch normalisations of a module tree be exact, where they are torch's own."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = ExactBatchNorm2d


def _is_one(images: Tensor) -> bool:
    """Whether a batch is one image; a batch whose size is a symbol, while a graph is traced, is not."""
    return type(images.shape[0]) is int and images.shape[0] == 1
