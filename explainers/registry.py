"""The methods by the name that they have on the wire.

A method is a frozen dataclass whose fields are its parameters: two requests with equal instances can share a batch.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol, Self, TypeVar

from torch import Tensor

from explainers.network import Network
from explainers.result import ImageResult
from explainers.targets import Targets


class Method(Protocol):
    """What every saliency method offers.

    Attributes:
        name: snake-case name, the same on the wire.
        title: as the literature writes it.
        reference: authors and year of the defining paper.
        description: one sentence for users.
        requirement: what networks it works on, in words.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    description: ClassVar[str]
    requirement: ClassVar[str]

    def resolve(self, network: Network) -> Self:
        """The method with every parameter filled in for `network`.

        Raises:
            NotApplicableError: the method is not defined for this network.
            UnknownLayerError: the network has no such layer.
        """
        ...

    def target_layer(self, network: Network) -> str:
        """Path of the module whose output is explained; empty when the method has none."""
        ...

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), float32 in [0, 1], before the model's normalisation.
            targets: one entry for each image.

        Returns:
            One result for each image. A result never depends on the other images of the batch.

        Raises:
            NotApplicableError, UnknownLayerError, InvalidTargetError.
        """
        ...


METHODS: dict[str, type[Method]] = {}
"""Every method by its name."""

MethodType = TypeVar("MethodType", bound=type[Method])


def register(method: MethodType) -> MethodType:
    """Class decorator that makes a method known under its name."""
    if method.name in METHODS:
        raise ValueError(f"method {method.name} is registered twice")
    METHODS[method.name] = method
    return method
