"""From logits to the probabilities of the classes."""

from enum import StrEnum

from torch import Tensor
from torch.nn.functional import logsigmoid


class Activation(StrEnum):
    """What the head's logits become.

    SOFTMAX: exactly one class is there; the probabilities of all sum to 1.
    SIGMOID: each class is there or not, whatever the others are: multi-label heads, and binary heads of one logit.
    """

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits of shape (..., classes) to probabilities of the same shape, in [0, 1]."""
        return logits.softmax(dim=-1) if self is Activation.SOFTMAX else logits.sigmoid()

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Natural logarithms of `probabilities`, computed without rounding small ones to 0."""
        if self is Activation.SOFTMAX:
            return logits.log_softmax(dim=-1)
        return logsigmoid(logits)
