"""The order in which a network's weights lie in the memory of a GPU."""

import logging

import torch
from torch import nn
from torch.fx import GraphModule

from explainers import Network

logger = logging.getLogger(__name__)


def arranged(module: nn.Module, network: Network) -> Network:
    """The network, on a GPU with its convolutions' kernels in channels_last, which is what tensor cores take.

    Their outputs then lie so, too. A network may count on its memory as it lies: where the logits are not the same but
    for rounding, everything stays. So do exported programs, which have their strides written down, and transformers.

    Args:
        module: what `network` was made of; its kernels are put in that order.
        network: on the device where it will compute.
    """
    if network.device.type != "cuda" or network.transformer is not None or not _has_convolutions(module):
        return network
    return in_channels_last(module, network)


def in_channels_last(module: nn.Module, network: Network) -> Network:
    """As `arranged`, on any device and whatever the network is."""
    images = network.noise(2)
    expected = network.predict(images)
    try:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        other = network.like(module)
        if torch.allclose(other.predict(images), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item()):
            return other
    except Exception as error:  # whatever the network raises at strides that it doesn't expect
        logger.info("the network does not take channels_last: %s", type(error).__name__)
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.like(module)


def _has_convolutions(module: nn.Module) -> bool:
    exported = any(isinstance(child, GraphModule) for child in module.modules())
    return not exported and any(isinstance(child, nn.Conv2d) for child in module.modules())
