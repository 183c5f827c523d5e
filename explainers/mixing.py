"""Mixtures of feature maps, and the mixture that comes closest to a wanted mask."""

import torch
from torch import Tensor

from explainers.ascent import Adam
from explainers.masking import Stretched


class Mixtures:
    """S(u) = sum_k softmax(u)_k A_k for many rows, and the way back, without autograd."""

    def __init__(self, activation: Tensor, images: Tensor, *, by_itself: bool) -> None:
        """Keep what they are made of.

        Args:
            activation: A of every image, shape (images, k, h, w).
            images: index of each row's image, shape (rows,).
            by_itself: whether to multiply each row by itself: a product of several at once rounds otherwise.
        """
        self._flat = activation.flatten(2)
        self._native = activation.shape[2:]
        self._images = images
        self._by_itself = by_itself

    def __call__(self, weights: Tensor, rows: Tensor) -> Tensor:
        """S, shape (n, h, w), for softmax(u), shape (n, k), of some rows, shape (n,)."""
        return self._product(weights, self._flat, rows).view(-1, *self._native)

    def gradient(self, weights: Tensor, of_maps: Tensor, rows: Tensor) -> Tensor:
        """Gradient with respect to u, shape (n, k), from that with respect to S, shape (n, h, w)."""
        of_weights = self._product(of_maps.flatten(1), self._flat.transpose(1, 2), rows)
        return weights * (of_weights - (weights * of_weights).sum(dim=1, keepdim=True))

    def _product(self, vectors: Tensor, matrices: Tensor, rows: Tensor) -> Tensor:
        images = self._images[rows]
        if not self._by_itself:
            return torch.bmm(vectors[:, None], matrices[images])[:, 0]
        products = [vector @ matrices[image] for vector, image in zip(vectors, images.tolist(), strict=True)]
        return torch.stack(products) if products else vectors.new_empty(0, matrices.shape[2])


class MaskSteps:
    """Wants a mask a little further up the gradient, and mixes the feature maps so that they come close to it.

    M = n(S(u)) is the mask on the layer's grid and g the gradient with respect to it, up to a factor. m = beta m +
    (1 - beta) g / mean(abs(g)), and the mask it wants is T = M + rate_t sign(m) sqrt(abs(m)), cut to [0, 1]. rate_t
    falls from the learning rate to zero in a straight line over the steps. u then goes down sum((n(S(u)) - T)^2) by
    some steps of Adam, which need no pass through the network.

    Many channels can do the same to the mask. Steps in the channels, one gradient at a time, don't see that; the fit
    does, because it looks at the mask that they make together.
    """

    BETA = 0.5
    FITTING_STEPS, FITTING_RATE, BETAS = 25, 0.15, (0.8, 0.95)

    def __init__(self, learning_rate: float, steps: int, mixtures: Mixtures, start: Tensor) -> None:
        """For a climb of all rows that starts at u = `start`, shape (rows, k)."""
        self._learning_rate = learning_rate
        self._total = steps
        self._mixtures = mixtures
        self._rows = torch.arange(len(start), device=start.device)
        self._steps = 0
        self._mean: Tensor | float = 0.0
        self._mixture = start

    def move(self, gradient: Tensor) -> Tensor:
        """What to add to u, shape (rows, k), from the gradient with respect to S(u), shape (rows, h, w)."""
        scale = gradient.abs().mean(dim=(1, 2), keepdim=True)
        unit = gradient / scale.masked_fill(scale == 0, 1)
        self._mean = self.BETA * self._mean + (1 - self.BETA) * unit
        rate = self._learning_rate * (1 - self._steps / self._total)
        self._steps += 1
        mask = Stretched.of(self._mixtures(self._mixture.softmax(dim=1), self._rows)).maps
        wanted = mask + rate * self._mean.sign() * self._mean.abs().sqrt()
        before = self._mixture
        self._mixture = self._fitted(before, wanted.clamp(0, 1))
        return self._mixture - before

    def _fitted(self, mixture: Tensor, wanted: Tensor) -> Tensor:
        """u near this one whose mask is close to `wanted`."""
        adam = Adam(self.FITTING_RATE, self.BETAS)
        for step in range(self.FITTING_STEPS):
            weights = mixture.softmax(dim=1)
            mask = Stretched.of(self._mixtures(weights, self._rows))
            of_maps = mask.gradient(2 * (mask.maps - wanted))
            gradient = self._mixtures.gradient(weights, of_maps, self._rows)
            mixture = mixture - (1 - step / self.FITTING_STEPS) * adam.move(gradient)
        return mixture
