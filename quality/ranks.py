"""Ranks with ties, and Spearman's correlation."""

import torch
from torch import Tensor


def average_ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values share the mean of theirs; shape (rows, n), float64."""
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values.contiguous(), right=False)
    up_to = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + up_to + 1).double() / 2


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of each row of `a` with that of `b`, shape (rows, n) each; not-a-number where one is flat.

    Returns:
        Shape (rows,), float64.
    """
    first, second = (ranks - ranks.mean(dim=1, keepdim=True) for ranks in (average_ranks(a), average_ranks(b)))
    size = (first.square().sum(dim=1) * second.square().sum(dim=1)).sqrt()
    correlation = (first * second).sum(dim=1) / size.where(size > 0, torch.nan)
    return correlation.clamp(-1, 1)
