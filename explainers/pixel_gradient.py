"""The gradient of the scores with respect to the pixels."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor

from explainers.errors import NotApplicableError
from explainers.network import Network
from explainers.progress import Progress

# Versions of images that go through the network together: on small networks one at a time takes twice as long. The
# tape needs about 100 MB for each on ResNet-50.
ROWS_AT_ONCE = 8


class PixelGradient:
    """One forward pass that can be asked for the gradients of any number of targets.

    Attributes:
        logits: shape (batch, classes), detached.
        graph_logits: the same with their graph.
        pixels: the leaf of that graph, shape (batch, 3, height, width).
    """

    def __init__(self, network: Network, images: Tensor) -> None:
        """Run the network.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1]. Gradients are with respect to these pixels, before the
                model's own normalisation.

        Raises:
            NotApplicableError: no differentiable way leads from the pixels to the logits.
        """
        with torch.inference_mode(False), torch.enable_grad():
            self.pixels = differentiable_pixels(network, images)
            self.graph_logits = network.logits(self.pixels)
        if not self.graph_logits.requires_grad:
            raise NotApplicableError("the scores don't depend on the pixels in a differentiable way")
        self.logits = self.graph_logits.detach()

    def __call__(self, seed: Tensor) -> Tensor:
        """Gradient of sum(seed * logits), shape (batch, 3, height, width).

        Args:
            seed: shape (batch, classes).
        """
        (gradient,) = torch.autograd.grad(
            self.graph_logits, self.pixels, seed.to(self.graph_logits), retain_graph=True
        )
        return gradient


def gradient_sum(network: Network, versions: Iterable[Tensor], seeds: Tensor, progress: Progress) -> Tensor:
    """Sum of the gradients over versions of a batch, as many together as there is room for.

    Args:
        network: the classifier.
        versions: each of shape (batch, 3, height, width).
        seeds: shape (ranks, batch, classes).
        progress: told of each version; where it says stop, no further ones are looked at.

    Returns:
        Shape (ranks, batch, 3, height, width).
    """
    batch = seeds.shape[1]
    remaining = iter(versions)
    total = torch.zeros((), device=network.device)
    while part := list(islice(remaining, max(1, ROWS_AT_ONCE // batch))):
        gradient = PixelGradient(network, torch.cat(part))
        found = [gradient(seed.repeat(len(part), 1)).view(len(part), *part[0].shape).sum(dim=0) for seed in seeds]
        total = total + torch.stack(found)
        if progress.step(count=len(part)):
            break
    return total


def differentiable_pixels(network: Network, images: Tensor) -> Tensor:
    """The images on the network's device, as the leaf of a graph of their own."""
    with torch.inference_mode(False):
        return images.to(network.device).detach().clone().requires_grad_()


def largest_over_colours(gradient: Tensor) -> Tensor:
    """max over colour of abs(gradient): shape (..., 3, height, width) to (..., height, width)."""
    return gradient.abs().amax(dim=-3)
