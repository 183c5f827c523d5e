"""How many rows (an image with one target) of a climb go through a network together."""

import torch
from torch import Tensor

from explainers.network import Network
from explainers.pairs import rows_at_once

# A climb enlarges rounding errors until they show in the map. So on a CPU rows go together only where a network gives
# each the bits that it gets by itself, in batches of sizes that were tried: what else is in a batch then changes
# nothing, to the last bit. Larger ones are no faster there, but for small images.
TRIED = (4, 2)
TRIED_SMALL = (8, *TRIED)
SMALL_IMAGE = 64**2  # pixels


def batch_sizes(network: Network, rows: int) -> list[int]:
    """Sizes of the batches that so many rows go in; their sum is `rows`."""
    most = rows_at_once(network)
    if most == 1 and rows > 1 and rounds_alike(network):
        return _greedily(rows, (*tried_sizes(network), 1))
    return [min(most, rows - start) for start in range(0, rows, most)]


def tried_sizes(network: Network) -> tuple[int, ...]:
    """Sizes of the batches that are tried on a network, largest first."""
    height, width = network.input_size
    return TRIED_SMALL if height * width <= SMALL_IMAGE else TRIED


def rounds_alike(network: Network) -> bool:
    """Whether a network's logits and their gradient are the same to the last bit in a batch. Tried once on noise.

    Libraries choose how to compute a layer by its shape and the number of threads, and not by its values.
    """
    return network.tried(("rounds alike", torch.get_num_threads(), network.autocast), lambda: _try(network))


def _greedily(rows: int, sizes: tuple[int, ...]) -> list[int]:
    found = []
    for size in sizes:
        found += [size] * (rows // size)
        rows %= size
    return found


def _try(network: Network) -> bool:
    noise, sizes = network.noise(), tried_sizes(network)
    alone = _logits_and_gradient(network, noise)
    try:
        batches = [(size, _logits_and_gradient(network, noise.expand(size, -1, -1, -1))) for size in sizes]
    except RuntimeError:  # one that takes a single image only
        return False
    return all(
        torch.equal(row, expected)
        for size, found in batches
        for together, expected in zip(found, alone, strict=True)
        for row in torch.split(together, 1)
    )


def _logits_and_gradient(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        pixels = images.clone(memory_format=network.memory_format).requires_grad_()
        logits = network.logits(pixels)
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), pixels)
    return logits.detach(), gradient
