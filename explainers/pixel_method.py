"""What the methods without a layer share: their maps have the size of the network's input."""

import dataclasses
from typing import Self

from explainers.abilities import is_differentiable
from explainers.errors import NotApplicableError
from explainers.network import Network


@dataclasses.dataclass(frozen=True)
class PixelMethod:
    """A method that explains no layer but the pixels themselves."""

    def resolve(self, network: Network) -> Self:
        """The method itself, where no parameter depends on the network."""
        return self

    def target_layer(self, network: Network) -> str:
        """No layer: the empty path."""
        return ""


@dataclasses.dataclass(frozen=True)
class PixelGradientMethod(PixelMethod):
    """A method that needs the gradient of the scores with respect to the pixels."""

    def resolve(self, network: Network) -> Self:
        """The method itself.

        Raises:
            NotApplicableError: no differentiable way leads from the pixels to the logits.
        """
        if not is_differentiable(network):
            raise NotApplicableError("the scores don't depend on the pixels in a differentiable way")
        return self
