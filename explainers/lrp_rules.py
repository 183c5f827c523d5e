"""The rules of layer-wise relevance propagation, as data, and how one is applied.

A neuron with the value z = sum_i z_i (+ bias) shares its relevance R out to its inputs, in proportion to contributions:

- plus: R_i = (z_i)+ / sum_k (z_k)+ R, where (.)+ is the positive part: deep Taylor's z+, or alpha = 1 and beta = 0
- alpha2_beta1: R_i = (2 (z_i)+ / sum_k (z_k)+ - (z_i)- / sum_k (z_k)-) R
- epsilon: R_i = z_i / (z + epsilon sign(z)) R; the bias is part of z, so it takes its share
- box: z_i = x_i w_i - low w_i+ - high w_i-: none is negative while the pixels are within [low, high] (z^B)

In a layer z_i = x_i w_i. In a sum or an average the weights are positive.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from explainers.lrp_operations import Layer

HandBack = Callable[[Tensor], list[Tensor]]
"""Takes the relevance of an output to that of each input."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        positive: coefficient of the shares in proportion to positive contributions.
        negative: the same for negative contributions.
        whole: the same for contributions as they are; only this one counts the bias, and is stabilised by epsilon.
    """

    positive: float = 0
    negative: float = 0
    whole: float = 0


PLUS = Rule(positive=1)
ALPHA2_BETA1 = Rule(positive=2, negative=-1)
EPSILON = Rule(whole=1)


@dataclasses.dataclass(frozen=True)
class RuleSet:
    """Which rule goes where.

    Attributes:
        dense: for linear layers.
        convolution: for convolutions.
        unweighted: for sums and averages.
        box: the first layers take the box rule in place of their own.
    """

    dense: Rule
    convolution: Rule
    unweighted: Rule
    box: bool


RULE_SETS = {
    "deep_taylor": RuleSet(PLUS, PLUS, PLUS, box=True),
    "epsilon": RuleSet(EPSILON, EPSILON, EPSILON, box=False),
    "alpha2_beta1": RuleSet(ALPHA2_BETA1, ALPHA2_BETA1, PLUS, box=False),
    "composite": RuleSet(EPSILON, PLUS, PLUS, box=True),
}


def through_layer(rule: Rule, layer: Layer, x: Tensor, *, positive: bool, epsilon: float) -> HandBack:
    """How a layer hands relevance back.

    Args:
        rule: by which rule.
        layer: the layer.
        x: what entered it.
        positive: no value of x is negative: half of the work is saved.
        epsilon: stabiliser of the epsilon rule.
    """
    parts = [x] if positive else [x.clamp(min=0), x.clamp(max=0)]
    shares = []
    if rule.positive:
        shares.append((rule.positive, share(layer.signed, parts)))
    if rule.negative:
        shares.append((rule.negative, share(layer.negated().signed, parts)))
    if rule.whole:
        shares.append((rule.whole, share(layer.contributions, [x], layer.bias, epsilon)))
    return lambda relevance: [_sum([factor * part for factor, back in shares for part in back(relevance)])]


def through_first_layer(layer: Layer, x: Tensor, low: Tensor, high: Tensor) -> HandBack:
    """The box rule, as (x - low) w+ + (x - high) w-: so no term is negative, and nothing cancels."""
    back = share(layer.signed, [x - low, x - high])
    return lambda relevance: [_sum(back(relevance))]


def through_sum(
    rule: Rule, function: Callable[..., Tensor], terms: Sequence[Tensor], *, positive: bool, epsilon: float
) -> HandBack:
    """How a sum of tensors, or an average within one, hands relevance back.

    Under the plus rule a negative sum is shared by its negative terms: so every sum but 0 hands on all that it has.

    Args:
        rule: EPSILON or PLUS.
        function: takes the terms to the sum.
        terms: what is summed.
        positive: no term is negative.
        epsilon: stabiliser of the epsilon rule.
    """
    if rule.whole:
        return share(function, terms, epsilon=epsilon)
    rising = share(function, [term.clamp(min=0) for term in terms])
    if positive:
        return rising
    falling = share(function, [term.clamp(max=0) for term in terms])
    below = function(*terms) < 0

    def hand_back(relevance: Tensor) -> list[Tensor]:
        both = rising(relevance.masked_fill(below, 0)), falling(relevance.masked_fill(~below, 0))
        return [up + down for up, down in zip(*both, strict=True)]

    return hand_back


def pull_back(function: Callable[..., Tensor], values: Sequence[Tensor]) -> HandBack:
    """To where each value came from: the transposed operation."""
    output, leaves = _follow(function, values)
    return lambda relevance: list(torch.autograd.grad(output, leaves, relevance, retain_graph=True))


def share(
    function: Callable[..., Tensor], parts: Sequence[Tensor], bias: Tensor | None = None, epsilon: float = 0
) -> HandBack:
    """Shares in proportion to contributions.

    Args:
        function: linear in each of `parts`; what it returns is the sum of all contributions.
        parts: the inputs, or parts of them.
        bias: counts as one more contribution, whose share is lost.
        epsilon: added to the denominators with their sign.
    """
    total, leaves = _follow(function, parts)
    divisor = total.detach() if bias is None else total.detach() + bias
    if epsilon:
        divisor = divisor + torch.where(divisor < 0, -epsilon, epsilon)

    def hand_back(relevance: Tensor) -> list[Tensor]:
        gradients = torch.autograd.grad(total, leaves, divide(relevance, divisor), retain_graph=True)
        return [part * gradient for part, gradient in zip(parts, gradients, strict=True)]

    return hand_back


def divide(relevance: Tensor, by: Tensor) -> Tensor:
    """The quotient; 0 where the divisor is no more than a rounding error of the largest one of the same row."""
    size = by.abs()
    largest = size.amax(dim=tuple(range(1, by.dim())), keepdim=True) if by.dim() > 1 else size
    return (relevance / by).where(size > largest * torch.finfo(by.dtype).eps, 0)


def _sum(terms: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)


def _follow(function: Callable[..., Tensor], values: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in values]
        return function(*leaves), leaves
