"""Shadows that are arranged for many passes on a CPU: the same logits but for rounding, in less time.

What is changed in them are copies: make one when it is needed and drop it, or a later update of the model doesn't show.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from explainers.batch_norm import ExactBatchNorm2d
from explainers.shadow import make_shadow, replace_module
from explainers.vit import VisionTransformer
from explainers.vit_modules import ClassTokenBlock, FullBlock, Patches

Arrangement = Callable[[nn.Module], nn.Module]
"""From a shadow to another one."""


def in_channels_last(shadow: nn.Module, device: torch.device) -> nn.Module:
    """Another shadow, whose 2D convolutions have their weights in the order of channels_last images.

    A CPU otherwise puts them into that order anew in every pass over such images. Kernels larger than 1 x 1 are copied.
    """
    arranged = make_shadow(shadow, device)
    _order_kernels(arranged)
    return arranged


def with_fewer_operations(
    shadow: nn.Module, device: torch.device, leaves: Sequence[str], transformer: VisionTransformer | None
) -> nn.Module:
    """Another shadow in channels_last that computes less.

    - A batch normalisation right behind a convolution becomes a part of its weights.
    - A plain vision transformer gets the modules of `explainers.vit_modules`.

    All of it is a guess from the order in which the modules ran: compare the logits.

    Args:
        shadow: as `make_shadow` returns it.
        device: where its weights are.
        leaves: paths of the modules without children, in the order in which they ran (`Trace.leaves`).
        transformer: what the network is, where it is one.
    """
    arranged = make_shadow(shadow, device)
    _fold_norms(arranged, leaves)
    modules = [(path, arranged.get_submodule(path)) for path in leaves]
    if transformer is not None:
        for path, module in modules:
            if isinstance(module, nn.Conv2d) and Patches.can_replace(module):
                replace_module(arranged, path, Patches(module))
        *blocks, last = transformer.blocks
        for block in blocks:
            replace_module(arranged, block.path, FullBlock(block))
        replace_module(arranged, last.path, ClassTokenBlock(last))
    _order_kernels(arranged)
    return arranged


def _order_kernels(network: nn.Module) -> None:
    for module in network.modules():
        weight = module._parameters.get("weight") if isinstance(module, nn.Conv2d) else None
        if weight is not None:
            _set(module, "weight", weight.contiguous(memory_format=torch.channels_last))


def _fold_norms(network: nn.Module, leaves: Sequence[str]) -> None:
    """Take batch normalisations into the convolutions right before them, where each ran once and they fit."""
    runs = Counter(leaves)
    for before, after in itertools.pairwise(leaves):
        convolution, norm = network.get_submodule(before), network.get_submodule(after)
        # Exactly these: what is derived from them may compute something else.
        if type(convolution) is not nn.Conv2d or type(norm) is not ExactBatchNorm2d or norm.running_mean is None:
            continue
        if runs[before] == runs[after] == 1 and norm.num_features == convolution.out_channels:
            _fold(convolution, norm)
            replace_module(network, after, nn.Identity())


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None  # noqa: S101 - for the type checker
    assert variance is not None  # noqa: S101
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    _set(convolution, "weight", weight)
    _set(convolution, "bias", bias)


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    module._parameters[name] = nn.Parameter(value.detach(), requires_grad=False)
