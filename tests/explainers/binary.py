"""One classifier twice: one logit z behind a sigmoid, and the logits 0 and z behind a softmax, which says the same."""

import copy
from functools import cache

import torch
from torch import nn

from explainers import Activation, Network
from tests.explainers.networks import MEAN, STD, ResidualCnn, prepare

SIZE = (32, 32)


@cache
def models() -> tuple[nn.Module, nn.Module]:
    """With one logit, and with two."""
    one = prepare(ResidualCnn(classes=1))
    two = copy.deepcopy(one)
    head = nn.Linear(6, 2).eval()
    with torch.no_grad():
        head.weight.copy_(torch.cat([torch.zeros(1, 6), one.head.weight]))  # type: ignore[union-attr, arg-type]
        head.bias.copy_(torch.cat([torch.zeros(1), one.head.bias]))  # type: ignore[union-attr, arg-type]
    two.head = head
    return one, two


@cache
def networks() -> tuple[Network, Network]:
    """The same, ready to explain: class 0 of the first is class 1 of the second."""
    one, two = models()
    return (
        Network(one, input_size=SIZE, mean=MEAN, std=STD, activation=Activation.SIGMOID),
        Network(two, input_size=SIZE, mean=MEAN, std=STD),
    )
