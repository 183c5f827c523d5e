"""The rules by which relevance goes back through the operations of a transformer's block.

Two sets. "published" (Chefer, Gur, Wolf 2021), every quotient being R / (Z + 1e-9), or 0 where Z = 0:
- linear layer without bias, alpha = 1 and beta = 0: R_in = x+ (S W+) + x- (S W-) with S = R / (x+ W+ + x- W-)
- product of two matrices: each operand times the gradient of sum(S * product) with S = R / product, halved
- residual sum a + b: a S and b S with S = R / (a + b), each then scaled so that together they have the relevance
  sum(R), shared out as |sum(a S)| to |sum(b S)|; the sums are over one image

Where the terms of a sum nearly cancel, S is as large as rounding errors let it be, and the result is not reliable.

"stable": the terms of a residual sum, and those inside each value of a matrix product, share relevance in proportion to
their absolute values. No denominator cancels. Linear layers keep the rule above, whose terms have one sign anyway.
"""

from typing import Protocol

from torch import Tensor

from explainers.vit import Linear

TINY = 1e-9


class Rules(Protocol):
    """How residual sums and matrix products hand relevance back."""

    def residual(self, a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Relevance of `a` and of `b`, given that of a + b; all of shape (B, Q, D)."""
        ...

    def product(self, a: Tensor, b: Tensor, product: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Relevance of `a` and of `b`, given that of `product` = a b; batches of matrices."""
        ...


class Published:
    """The rules of the paper."""

    def residual(self, a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Proportional to the terms, then rescaled by their sums over the image."""
        share = divide(relevance, a + b)
        a, b = a * share, b * share
        total = relevance.sum(dim=(1, 2), keepdim=True)
        sum_a, sum_b = (part.sum(dim=(1, 2), keepdim=True) for part in (a, b))
        both = sum_a.abs() + sum_b.abs()
        a *= divide(divide(sum_a.abs(), both) * total, sum_a)
        b *= divide(divide(sum_b.abs(), both) * total, sum_b)
        return a, b

    def product(self, a: Tensor, b: Tensor, product: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Half to each operand, proportional to the terms of each value."""
        share = divide(relevance, product) / 2
        return a * (share @ b.transpose(-2, -1)), b * (a.transpose(-2, -1) @ share)


class Stable:
    """Rules in which nothing cancels."""

    def residual(self, a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Proportional to the absolute values of the terms."""
        a, b = a.abs(), b.abs()
        share = divide(relevance, a + b)
        return a * share, b * share

    def product(self, a: Tensor, b: Tensor, product: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Half to each operand, proportional to the absolute values of the terms of each value."""
        a, b = a.abs(), b.abs()
        share = divide(relevance, a @ b) / 2
        return a * (share @ b.transpose(-2, -1)), b * (a.transpose(-2, -1) @ share)


def divide(relevance: Tensor, by: Tensor) -> Tensor:
    """The paper's quotient: the stabiliser is added whatever the sign, and nothing is handed on where `by` is 0."""
    return (relevance / (by + TINY)).where(by != 0, 0)


def through_linear(layer: Linear, x: Tensor, output: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of what entered a linear layer, the same under both sets of rules.

    With |x| = x+ - x- and likewise for W, the four products with W+ and W- become three: Z = (|x| |W|^T + x W^T) / 2,
    of which the second is the layer's own output, and R_in = (x * (S W) + |x| * (S |W|)) / 2.

    Args:
        layer: the layer.
        x: what entered it, (..., inputs).
        output: what it returned, (..., outputs).
        relevance: of the output.
    """
    weight, magnitude = layer.weight.to(x.dtype), layer.magnitude(x.dtype)
    absolute = x.abs()
    total = absolute @ magnitude.T + output
    if layer.bias is not None:
        total -= layer.bias.to(x.dtype)
    # Rounding may leave a sum of nothing but zeros below zero. TINY belongs to Z, so Z is halved and not the result.
    share = divide(relevance, total.clamp(min=0) / 2) / 2
    return x * (share @ weight) + absolute * (share @ magnitude)
