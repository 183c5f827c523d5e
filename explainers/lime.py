"""LIME."""

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from explainers.parameters import parameter
from explainers.registry import register
from explainers.superpixel_method import Design, SuperpixelMethod


@register
@dataclasses.dataclass(frozen=True)
class Lime(SuperpixelMethod):
    r"""How much seeing a superpixel raises the probability of the class, by a linear model around the image.

    A superpixel's value is w_j of argmin over (w, b) of sum_i pi_i (p_c(x_i) - b - w . z_i)^2 + alpha |w|^2. z_i says
    which superpixels can be seen in x_i: all of them in the first, and in each of the others every one with probability
    1/2. pi_i = exp(-d_i^2 / (2 kernel_width^2)) with d_i = 1 - sqrt(|z_i| / M), the cosine distance from z_i to all M
    superpixels. The intercept b is free of the penalty. The map has either sign.

    z_2, z_3, ... are the rows of `torch.rand(samples - 1, M, generator=torch.Generator().manual_seed(seed)) < 0.5`.

    Ribeiro, Singh, Guestrin, "'Why Should I Trust You?': Explaining the Predictions of Any Classifier", KDD 2016. The
    samples, distance, kernel and penalty are by default those of the authors' program for images. The superpixels are
    SLIC's, where that takes quickshift's, and hidden ones grey, where it takes their mean colour.

    Costs 1 + `samples` forward passes, however many targets there are. No gradients.
    """

    name: ClassVar[str] = "lime"
    title: ClassVar[str] = "LIME"
    reference: ClassVar[str] = "Ribeiro et al. 2016"
    description: ClassVar[str] = "How much seeing each superpixel raises the class's probability, by a linear model."

    kernel_width: float = parameter(
        0.25, "How far from the image a sample still counts, in cosine distance.", minimum=0.01, maximum=100
    )
    alpha: float = parameter(1.0, "Penalty on the squared coefficients.", minimum=1e-6, maximum=1e6)

    def design(self, count: int) -> Design:
        """As `SuperpixelMethod.design`: all superpixels, then random ones."""
        generator = torch.Generator().manual_seed(self.seed)
        random = torch.rand(self.samples - 1, count, generator=generator) < 0.5
        coalitions = torch.cat([torch.ones(1, count, dtype=torch.bool), random])
        distance = 1 - coalitions.double().mean(dim=1).sqrt()
        return Design(coalitions, torch.exp(-(distance**2) / (2 * self.kernel_width**2)))

    def solve(self, design: Design, scores: Tensor) -> Tensor:
        """As `SuperpixelMethod.solve`: the weighted ridge regression, its intercept taken out by centring."""
        weights = design.weights / design.weights.sum()
        seen = design.coalitions.double()
        seen = seen - weights @ seen
        centred = scores - (scores @ weights)[:, None]
        weighted = seen.T * design.weights
        penalty = self.alpha * torch.eye(seen.shape[1], dtype=torch.float64)
        coefficients: Tensor = torch.linalg.solve(weighted @ seen + penalty, weighted @ centred.T)
        return coefficients.T
