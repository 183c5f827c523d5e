"""KernelSHAP."""

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from explainers.registry import register
from explainers.superpixel_method import Design, SuperpixelMethod

RANK_TOLERANCE = 1e-10  # of the normal equations: their eigenvalues are nearly equal, but for those that are zero


@register
@dataclasses.dataclass(frozen=True)
class KernelShap(SuperpixelMethod):
    r"""The Shapley value of each superpixel in the probability of the class.

    The values phi minimise sum_z k(z) (p_c(z) - p_c(none) - phi . z)^2 under sum_j phi_j = p_c(all) - p_c(none), where
    z says which of the M superpixels can be seen and k(z) = (M - 1) / (binomial(M, |z|) |z| (M - |z|)), the Shapley
    kernel. Over all 2^M - 2 coalitions z the minimum is at the Shapley values; they are used, in random order, where
    `samples` suffices for them, and the map is then exact. Otherwise `samples` coalitions are drawn, in pairs of a
    coalition and its complement: first its size s with probability in proportion to 1 / (s (M - s)), then its members
    uniformly; each draw counts once. The values add up to p_c(all) - p_c(none) either way. The map has either sign.

    Lundberg, Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017; pairs: Covert, Lee, "Improving
    KernelSHAP: Practical Shapley Value Estimation Using Linear Regression", AISTATS 2021.

    Costs 3 + `samples` forward passes or 1 + 2^M, whatever is fewer, however many targets there are. No gradients.
    """

    name: ClassVar[str] = "kernel_shap"
    title: ClassVar[str] = "KernelSHAP"
    reference: ClassVar[str] = "Lundberg and Lee 2017"
    description: ClassVar[str] = "Each superpixel's Shapley value: its fair share in the class's probability."

    def design(self, count: int) -> Design:
        """As `SuperpixelMethod.design`: nothing and everything first, whose weights are infinite, then what is between.

        With `g = torch.Generator().manual_seed(seed)`, half of the coalitions are, where all of them fit, the binary
        digits (the least first) of 1 + torch.randperm(2^(M - 1) - 1, generator=g); otherwise the members of each are
        the superpixels with its s smallest numbers in `torch.rand(ceil(samples / 2), M, generator=g)`, with sizes
        `s = 1 + torch.multinomial(1 / (s (M - s)) for s = 1, ..., M - 1, ceil(samples / 2), replacement=True,
        generator=g)`, drawn before them. Each is followed by its complement.
        """
        ends = torch.tensor([[False], [True]]).expand(2, count)
        generator = torch.Generator().manual_seed(self.seed)
        if 2**count - 2 <= self.samples:
            half = _every_other(count, generator)
            weights = shapley_kernel(count)[_with_complements(half).sum(dim=1)]
        else:
            half = _drawn(count, (self.samples + 1) // 2, generator)
            weights = torch.ones(2 * len(half), dtype=torch.float64)
        coalitions = torch.cat([ends, _with_complements(half)])
        infinite = torch.full((2,), torch.inf, dtype=torch.float64)
        return Design(coalitions, torch.cat([infinite, weights])).first(2 + self.samples)

    def solve(self, design: Design, scores: Tensor) -> Tensor:
        """As `SuperpixelMethod.solve`: an equal share for all, and to it the deviations, which add up to nothing.

        With phi = gain / M + psi, sum psi = 0, the best psi is that of a regression on the rows of z less their mean.
        These are orthogonal to (1, ..., 1), and so is the smallest solution: the constraint needs no further care, no
        superpixel is treated unlike another, and too few coalitions still give an answer.
        """
        none, everything, between = scores[:, :1], scores[:, 1:2], scores[:, 2:]
        gain = everything - none
        seen = design.coalitions[2:].double()
        share = seen.mean(dim=1)
        weighted = (seen - share[:, None]).T * design.weights[2:]
        normal = weighted @ (seen - share[:, None])
        inverse: Tensor = torch.linalg.pinv(normal, hermitian=True, rtol=RANK_TOLERANCE)
        deviations = (between - none - gain * share) @ (inverse @ weighted).T
        return gain / seen.shape[1] + deviations


def shapley_kernel(count: int) -> Tensor:
    """k of coalitions of 0, ..., `count` superpixels, shape (count + 1,), float64; zero for none and all."""
    sizes = torch.arange(count + 1, dtype=torch.float64)
    log_factorial = torch.lgamma(sizes + 1)
    log_binomial = log_factorial[-1] - log_factorial - log_factorial.flip(0)
    kernel = (count - 1) / (log_binomial.exp() * sizes * (count - sizes))
    return kernel.where(kernel.isfinite(), 0)


def _every_other(count: int, generator: torch.Generator) -> Tensor:
    """One of each pair of complements, shape (2^(count - 1) - 1, count), in random order."""
    numbers = 1 + torch.randperm(2 ** (count - 1) - 1, generator=generator)
    return (numbers[:, None] >> torch.arange(count)) % 2 == 1


def _drawn(count: int, pairs: int, generator: torch.Generator) -> Tensor:
    """Coalitions by the Shapley kernel, shape (pairs, count)."""
    sizes = torch.arange(1, count, dtype=torch.float64)
    drawn = 1 + torch.multinomial(1 / (sizes * (count - sizes)), pairs, replacement=True, generator=generator)
    order = torch.rand(pairs, count, generator=generator).argsort(dim=1, stable=True)
    return order.argsort(dim=1) < drawn[:, None]


def _with_complements(half: Tensor) -> Tensor:
    """Each row followed by its complement."""
    return torch.stack([half, ~half], dim=1).flatten(0, 1)
