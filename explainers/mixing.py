"""Climbs by the mask, and finds the mixture of feature maps that comes closest to the mask it wants."""

import torch
from torch import Tensor

from explainers.ascent import Adam
from explainers.masking import min_max


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

    def __init__(self, learning_rate: float, steps: int, activation: Tensor) -> None:
        """For a climb that starts at u = 0; `activation` is A of every row, shape (rows, k, h, w)."""
        self._learning_rate = learning_rate
        self._total = steps
        self._activation = activation
        self._steps = 0
        self._mean: Tensor | float = 0.0
        self._mixture = activation.new_zeros(activation.shape[:2])

    def move(self, gradient: Tensor) -> Tensor:
        """What to add to u, shape (rows, k), from the gradient with respect to S(u), shape (rows, h, w)."""
        scale = gradient.abs().mean(dim=(1, 2), keepdim=True)
        unit = gradient / scale.masked_fill(scale == 0, 1)
        self._mean = self.BETA * self._mean + (1 - self.BETA) * unit
        rate = self._learning_rate * (1 - self._steps / self._total)
        self._steps += 1
        wanted = self._mask(self._mixture) + rate * self._mean.sign() * self._mean.abs().sqrt()
        before = self._mixture
        self._mixture = self._fitted(before, wanted.clamp(0, 1))
        return self._mixture - before

    def _mask(self, mixture: Tensor) -> Tensor:
        return min_max(torch.einsum("nk,nkhw->nhw", mixture.softmax(dim=1), self._activation))

    def _fitted(self, mixture: Tensor, wanted: Tensor) -> Tensor:
        """u near this one whose mask is close to `wanted`."""
        adam = Adam(self.FITTING_RATE, self.BETAS)
        for step in range(self.FITTING_STEPS):
            with torch.enable_grad():
                mixture = mixture.detach().requires_grad_()
                distance = ((self._mask(mixture) - wanted) ** 2).sum()
                (gradient,) = torch.autograd.grad(distance, mixture)
            mixture = mixture.detach() - (1 - step / self.FITTING_STEPS) * adam.move(gradient)
        return mixture
