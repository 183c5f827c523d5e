"""Occlusion."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.class_maps import explain_logits
from explainers.errors import InvalidParameterError
from explainers.network import Network
from explainers.parameters import parameter
from explainers.pixel_method import PixelMethod
from explainers.progress import Progress
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Stepwise, Watch

MOST_WINDOWS = 4096  # a request must end some day


@register
@dataclasses.dataclass(frozen=True)
class Occlusion(PixelMethod, Stepwise):
    r"""How far the probability of the class drops when a grey square covers a place.

    S_ij is the mean of p_c(x) - p_c(x_w) over the squares w that cover pixel ij; x_w is the image with the grey square.
    Squares start at the top left, `stride` apart; the last ones in a row or column may stand over the edge, and are cut
    off there, so that every pixel is covered.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.

    Costs one forward pass for the image and one for each square, however many targets there are. No gradients.
    """

    name: ClassVar[str] = "occlusion"
    title: ClassVar[str] = "Occlusion"
    reference: ClassVar[str] = "Zeiler and Fergus 2014"
    description: ClassVar[str] = "How far the class's probability drops when a grey square covers a place."
    requirement: ClassVar[str] = "any network"
    partial: ClassVar[bool] = False

    window: int | None = parameter(
        None, "Side of the square in pixels of the input; without it, a seventh of the input's shorter side.", minimum=1
    )
    stride: int | None = parameter(
        None, "Pixels from one square to the next, at most the side; without it, half the side.", minimum=1
    )
    grey: float = parameter(0.5, "Brightness of the square.", minimum=0, maximum=1)

    def resolve(self, network: Network) -> Self:
        """The method with its window (cut to the size of the input) and its stride filled in.

        Raises:
            InvalidParameterError: the stride is larger than the window, or makes more than `MOST_WINDOWS` squares.
        """
        window, stride = self._geometry(network)
        return dataclasses.replace(self, window=window, stride=stride)

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every pass over some of the squares; there is no map before the last.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; raw maps have either sign.

        Raises:
            InvalidParameterError, InvalidTargetError, and whatever `watch` raises.
        """
        geometry = self._geometry(network)
        pixels = images.to(network.device)
        rows, columns = (_spans(side, *geometry).to(pixels) for side in network.input_size)
        logits = network.predict(images)
        network = network.for_many_passes()
        progress = Progress(len(pixels) * math.ceil(len(rows) * len(columns) / network.images_at_once), watch)
        with torch.inference_mode():
            occluded = torch.stack([self._probabilities(network, image, rows, columns, progress) for image in pixels])
        drops = network.activation.probabilities(logits)[:, None, None] - occluded
        covered = rows.sum(dim=0)[:, None] * columns.sum(dim=0)

        def raw_map(seed: Tensor) -> Tensor:
            of_target = torch.einsum("byxc,bc->byx", drops, seed.to(drops))
            return torch.einsum("byx,yh,xw->bhw", of_target, rows, columns) / covered

        return explain_logits(logits, targets, raw_map)

    def _geometry(self, network: Network) -> tuple[int, int]:
        """Window and stride; raises as `resolve` does."""
        shorter = min(network.input_size)
        window = min(self.window or max(1, round(shorter / 7)), shorter)
        stride = self.stride or max(1, window // 2)
        if stride > window:
            raise InvalidParameterError("stride", "stride must be at most window, or places would stay uncovered")
        height, width = (len(_starts(side, window, stride)) for side in network.input_size)
        if height * width > MOST_WINDOWS:
            raise InvalidParameterError("stride", f"stride must make at most {MOST_WINDOWS} squares")
        return window, stride

    def _probabilities(
        self, network: Network, image: Tensor, rows: Tensor, columns: Tensor, progress: Progress
    ) -> Tensor:
        """Of every class, with a square at each place: shape (len(rows), len(columns), classes)."""
        places = torch.cartesian_prod(torch.arange(len(rows)), torch.arange(len(columns)))
        logits = []
        for some in torch.split(places, network.images_at_once):
            squares = (rows[some[:, 0], :, None] * columns[some[:, 1], None, :])[:, None].bool()
            logits.append(network.predict(image.masked_fill(squares, self.grey)))
            progress.step()
        return network.activation.probabilities(torch.cat(logits)).view(len(rows), len(columns), -1)


def _starts(side: int, window: int, stride: int) -> range:
    """Where squares start along a side; the last one reaches its end."""
    return range(0, max(1, side - window + stride), stride)


def _spans(side: int, window: int, stride: int) -> Tensor:
    """Shape (squares, side): 1 where a square covers, else 0."""
    spans = torch.zeros(len(_starts(side, window, stride)), side)
    for span, start in zip(spans, _starts(side, window, stride), strict=True):
        span[start : start + window] = 1
    return spans
