"""What it takes to run another library's saliency method on one image."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

ToGrid = Callable[[Tensor], Tensor]
MASKS_AT_ONCE = 32


@dataclass(frozen=True)
class Setting:
    """One image and what to explain of it.

    Attributes:
        model: takes normalised images.
        pixels: shape (1, 3, height, width), in [0, 1].
        mean: shape (1, 3, 1, 1).
        std: likewise.
        layer: module path of the layer to explain.
        channels: how many feature maps it has.
        target: the class.
        to_grid: lays out tokens; None for feature maps.
        linear: module path of the classifier behind global average pooling; None where there is none.
        plain: the network is a row of modules, with no sums of branches and no functions between them.
    """

    model: nn.Module
    pixels: Tensor
    mean: Tensor
    std: Tensor
    layer: str
    channels: int
    target: int
    to_grid: ToGrid | None
    linear: str | None
    plain: bool

    @property
    def inputs(self) -> Tensor:
        """The image as the model takes it."""
        return (self.pixels - self.mean) / self.std


@dataclass(frozen=True)
class Peer:
    """A method of another library.

    Attributes:
        run: answers with a map of shape (h, w) or (height, width).
        passes: images that it sends through the whole network; None where a fraction of them can't be told from
            all.
        model: what it sends them through.
    """

    run: Callable[[], Tensor]
    passes: int | None
    model: nn.Module


Maker = Callable[[Setting, dict[str, Any]], Peer | None]


def own_tree(model: nn.Module) -> nn.Module:
    """New modules around the same weights: hooks that a library leaves behind shall not slow the others."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def of_pixels(setting: Setting, model: nn.Module, *, probabilities: bool = False) -> Callable[[Tensor], Tensor]:
    """A model behind its normalisation, for libraries that know no pixels in [0, 1].

    No module: torch's counter of operations can't follow a leaf of the graph into one.
    """

    def scores(pixels: Tensor) -> Tensor:
        logits: Tensor = model((pixels - setting.mean) / setting.std)
        return logits.softmax(dim=1) if probabilities else logits

    return scores


def without_in_place(model: nn.Module) -> nn.Module:
    """The same model, whose ReLUs write nothing in place: hooks of other libraries don't bear it."""
    for module in model.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 - the type checker takes modules' attributes for tensors
    return model


def with_gradient(inputs: Tensor) -> Tensor:
    """The same with a gradient. No leaf: torch's counter of operations can't follow one into a module."""
    return inputs.requires_grad_().clone()
