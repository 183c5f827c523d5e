"""Recognises networks that end in global average pooling and one linear layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.probe import Trace
from explainers.recorder import Recording


@dataclass(frozen=True)
class LinearHead:
    """logits = weight mean(A) + bias, with A the output of a layer and the mean over its grid.

    Attributes:
        layer: path of the layer.
        names: every path whose output is that map, `layer` among them: a block and its last module, for example.
        weight: shape (classes, channels).
    """

    layer: str
    names: frozenset[str]
    weight: Tensor


@dataclass(frozen=True)
class Classifier:
    """The linear layer that returns the logits: weight of shape (classes, inputs) and bias."""

    weight: Tensor
    bias: Tensor | None


def last_linear(trace: Trace) -> Classifier | None:
    """The module that returned the logits, if it has weight and bias as a linear layer does."""
    for call in trace.calls:
        weight = getattr(call.module, "weight", None)
        bias = getattr(call.module, "bias", None)
        if call.output is trace.output and isinstance(weight, Tensor) and weight.dim() == 2:
            return Classifier(weight, bias if isinstance(bias, Tensor) else None)
    return None


def follows_pooling(classifier: Classifier, recording: Recording) -> bool:
    """Whether the recorded logits are the classifier's answer to the pooled activation, to rounding.

    The modules alone are no proof: a function that no module shows may stand between pooling and classifier.
    """
    weight = classifier.weight
    pooled = recording.activation.mean(dim=(2, 3)).to(weight.dtype)
    scores = pooled @ weight.T
    expected = scores if classifier.bias is None else scores + classifier.bias
    error = (expected - recording.logits).abs().max()
    tolerance = max(1e-4, 4 * torch.finfo(weight.dtype).eps)
    # Strictly less: neither a classifier of zeros, to which every network is equal, nor not-a-number passes.
    return bool(error < tolerance * scores.abs().max())
