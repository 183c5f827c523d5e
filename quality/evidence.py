"""What metrics look at: images, classes and maps, and whatever else is known of them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from explainers import (
    Activation,
    Classes,
    ExplainerError,
    ImageResult,
    Method,
    Network,
    NormalisedMaps,
    normalise,
    upsample,
)
from explainers.masking import min_max
from explainers.pairs import Pairs
from explainers.targets import resolve
from quality.passes import explain as explain_watched
from quality.passes import predict

T = TypeVar("T")

Explain = Callable[[Network, Tensor, tuple[tuple[int, ...], ...]], Tensor]
"""Takes a network, images and the classes of each image to maps in [0, 1], shape (rows, h, w), image by image."""


class Need(StrEnum):
    """What a metric may need beyond images, classes and maps. The values are names of fields of `Evidence`."""

    NETWORK = "network"
    BOXES = "boxes"
    MASKS = "masks"
    OTHER_MAPS = "other_maps"
    EXPLAIN = "explain"
    MODEL = "model"


class MissingEvidenceError(ExplainerError):
    """A metric needs something that it was not given.

    Attributes:
        need: what is missing.
    """

    def __init__(self, metric: str, need: Need) -> None:
        super().__init__(f"{metric} needs {need.value}")
        self.need = need


@dataclass(frozen=True, eq=False)
class Evidence:
    """One batch of explained images. A row is an image with one of its classes; rows go image by image.

    What several metrics need is computed once and kept, so they should share one instance, in one thread.

    Attributes:
        images: shape (batch, 3, height, width), in [0, 1], before the model's normalisation.
        classes: the explained class indices of each image.
        maps: shape (rows, h, w), one for each row, on any grid. Only their shape up to n() counts.
        network: the explained classifier.
        logits: shape (batch, classes), of the unmasked images; computed when not given.
        boxes: for each row the boxes of the object of its class, shape (n, 4): x0, y0, x1, y1 in pixels of `images`;
            the pixel in row i and column j covers [j, j + 1) x [i, i + 1).
        masks: shape (rows, height, width), bool: the pixels of the object of each row's class.
        other_maps: maps of another method for the same rows, shape (rows, h, w), on a grid of their own.
        explain: makes the maps again, for other images or another network; see `explain_by`.
        model: the module that `network` was made of.
    """

    images: Tensor
    classes: tuple[tuple[int, ...], ...]
    maps: Tensor
    network: Network | None = None
    logits: Tensor | None = None
    boxes: tuple[Tensor, ...] | None = None
    masks: Tensor | None = None
    other_maps: Tensor | None = None
    explain: Explain | None = None
    model: nn.Module | None = None
    _memory: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        rows = sum(map(len, self.classes))
        if len(self.classes) != len(self.images):
            raise ValueError(f"classes for {len(self.classes)} of {len(self.images)} images")
        for name in ("maps", "boxes", "masks", "other_maps"):
            given = getattr(self, name)
            if given is not None and len(given) != rows:
                raise ValueError(f"{len(given)} {name} for {rows} rows")
        if self.masks is not None and tuple(self.masks.shape[1:]) != self.size:
            raise ValueError("masks must be as large as the images")

    def require(self, metric: str, needs: frozenset[Need]) -> None:
        """Fail unless everything in `needs` is there.

        Raises:
            MissingEvidenceError: something is missing.
        """
        for need in Need:
            if need in needs and getattr(self, need.value) is None:
                raise MissingEvidenceError(metric, need)

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives, computed once for each key."""
        if key not in self._memory:
            self._memory[key] = compute()
        return cast(T, self._memory[key])

    def given(self, need: Need) -> Any:
        """The field of that name, which a metric has required."""
        return getattr(self, need.value)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.images.shape[2], self.images.shape[3]

    @cached_property
    def pairs(self) -> Pairs:
        """The rows: index of the image and of the class."""
        return Pairs.of(list(self.classes), torch.device("cpu"))

    @cached_property
    def native(self) -> NormalisedMaps:
        """n(S): the maps on their own grid."""
        return normalise(self.maps.detach().cpu())

    @cached_property
    def pixels(self) -> Tensor:
        """n(up(S)): the maps on the pixels of the images, shape (rows, height, width), float32 in [0, 1]."""
        return self._enlarged(self.native)

    @cached_property
    def other_native(self) -> NormalisedMaps:
        """n(S) of the other method."""
        return normalise(self.given(Need.OTHER_MAPS).detach().cpu())

    @cached_property
    def other_pixels(self) -> Tensor:
        """n(up(S)) of the other method."""
        return self._enlarged(self.other_native)

    @cached_property
    def undefined(self) -> Tensor:
        """Rows that no metric is defined for: the map is degenerate or the image not finite. Shape (rows,), bool."""
        # amax keeps NaN and infinity: six times as fast as to look at each pixel.
        broken = ~self.images.flatten(1).abs().amax(dim=1).isfinite().cpu()
        return self.native.degenerate | broken[self.pairs.images]

    @cached_property
    def scores(self) -> Tensor:
        """Logits of the unmasked images, shape (batch, classes), float64 on the CPU.

        Raises:
            InvalidTargetError: the network has no such class.
        """
        logits = self.logits
        if logits is None:
            logits = torch.cat(list(predict(self.given(Need.NETWORK), self.images)))
        resolve([Classes(indices) for indices in self.classes], logits)
        return logits.detach().cpu().double()

    @cached_property
    def probability(self) -> Tensor:
        """p: probability of each row's class on its unmasked image, shape (rows,), float64."""
        return self.activation.probabilities(self.scores)[self.pairs.images, self.pairs.classes]

    @cached_property
    def right(self) -> Tensor:
        """Whether the network finds the class of each row on its unmasked image, shape (rows,), bool."""
        return self.unmasked_verdicts == self.right_verdicts

    @property
    def activation(self) -> Activation:
        """From logits to probabilities: the network's; softmax where there are only logits."""
        return Activation.SOFTMAX if self.network is None else self.network.activation

    def verdicts(self, logits: Tensor, rows: Tensor) -> Tensor:
        """What the network decides of rows, from the logits of an image for each: (n, classes) to (n,), int64.

        With softmax it is the predicted class. With sigmoid it is 1 where the row's class is more probable than not,
        else 0: no class competes with another.
        """
        if self.activation is Activation.SOFTMAX:
            return logits.argmax(dim=1)
        return (logits.gather(1, self.pairs.classes[rows, None].to(logits.device))[:, 0] > 0).long()

    @property
    def right_verdicts(self) -> Tensor:
        """What `verdicts` are where the network finds the class of each row, shape (rows,)."""
        classes = self.pairs.classes
        return classes if self.activation is Activation.SOFTMAX else torch.ones_like(classes)

    @cached_property
    def unmasked_verdicts(self) -> Tensor:
        """`verdicts` on the unmasked images, shape (rows,)."""
        return self.verdicts(self.scores[self.pairs.images], torch.arange(len(self.pairs)))

    @cached_property
    def inside(self) -> Tensor:
        """The pixels whose centre is in one of the row's boxes, shape (rows, height, width), bool."""
        y, x = (torch.arange(side) + 0.5 for side in self.size)
        regions = torch.zeros(len(self.pairs), *self.size, dtype=torch.bool)
        for region, boxes in zip(regions, self.given(Need.BOXES), strict=True):
            for x0, y0, x1, y1 in boxes.tolist():
                region |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))
        return regions

    def _enlarged(self, native: NormalisedMaps) -> Tensor:
        # One at a time: the same bits whatever else is in the batch, so that ties are the same too.
        return torch.cat(
            [min_max(upsample(each[None], self.size)) for each in native.maps] or [torch.empty(0, *self.size)]
        )


def of_results(network: Network, images: Tensor, results: Sequence[ImageResult], **further: Any) -> Evidence:
    """Evidence of what a method answered: its maps, and the logits that it had computed anyway.

    Args:
        network: the explained classifier.
        images: shape (batch, 3, height, width), in [0, 1].
        results: one for each image, with maps of one shape.
        further: other fields of `Evidence`.
    """
    rows = [item for result in results for item in result.explanations]
    maps = torch.stack([item.map for item in rows]) if rows else torch.empty(0, 1, 1)
    return Evidence(
        images,
        tuple(tuple(item.target for item in result.explanations) for result in results),
        maps,
        network=network,
        logits=torch.stack([result.logits for result in results]),
        **further,
    )


def explain_by(method: Method) -> Explain:
    """The way to explain again by `method`, until a `watched` check ends it."""

    def explain(network: Network, images: Tensor, classes: tuple[tuple[int, ...], ...]) -> Tensor:
        results = explain_watched(method, network, images, [Classes(indices) for indices in classes])
        return torch.stack([item.map for result in results for item in result.explanations])

    return explain
