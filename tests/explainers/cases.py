"""One row for each method: on which networks it is tried, and what it must agree with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from torch import Tensor, nn

from explainers import METHODS, Network
from tests.explainers import references
from tests.explainers.networks import (
    MEAN,
    STD,
    ResidualCnn,
    ViT,
    fully_convolutional,
    network,
    perceptron,
    prepare,
    vgg,
)

VIT_GRID = references.tokens_to_grid(4, 4, prefix=3)


@dataclass(frozen=True)
class Subject:
    """A network to explain.

    Attributes:
        build: makes the model.
        layer: its target layer.
        further_layer: another layer with a map of the same layout.
        to_grid: how the layer's output is laid out.
    """

    build: Callable[[], nn.Module]
    layer: str
    further_layer: str
    to_grid: references.ToGrid = references.channels_first


SUBJECTS = {
    "residual": Subject(ResidualCnn, "stage.1", "stage.0.norm"),
    "vgg": Subject(vgg, "0.5", "0.3"),
    "fully_convolutional": Subject(fully_convolutional, "1", "0"),
    "vit": Subject(lambda: ViT(registers=2), "blocks.1.norm1", "blocks.0.norm2", VIT_GRID),
}


@cache
def model_of(subject: str) -> nn.Module:
    """The subject's model, made once."""
    return prepare(SUBJECTS[subject].build())


@cache
def network_of(subject: str) -> Network:
    """The subject's model ready to explain, made once."""
    return network(model_of(subject))


Reference = Callable[[str, Tensor, int], references.Map]


@dataclass(frozen=True)
class Case:
    """A method in the table.

    Attributes:
        subjects: names of the networks that it works on.
        reference: (subject, image, class) to the raw map, by the definition.
        not_for: makes a network for which the method is not defined.
    """

    subjects: tuple[str, ...]
    reference: Reference
    not_for: Callable[[], nn.Module]


def _grad_cam(subject: str, image: Tensor, target: int) -> references.Map:
    entry = SUBJECTS[subject]
    inputs = references.normalised(image, MEAN, STD)
    return references.grad_cam(model_of(subject), inputs, entry.layer, target, entry.to_grid)


def _cam(subject: str, image: Tensor, target: int) -> references.Map:
    inputs = references.normalised(image, MEAN, STD)
    return references.cam(model_of(subject), inputs, SUBJECTS[subject].layer, "head", target)


CASES = {
    "grad_cam": Case(tuple(SUBJECTS), _grad_cam, perceptron),
    "cam": Case(("residual",), _cam, vgg),
}

each_method = pytest.mark.parametrize("name", sorted(METHODS))
each_pair = pytest.mark.parametrize(
    ("name", "subject"), [(name, subject) for name, case in CASES.items() for subject in case.subjects]
)
