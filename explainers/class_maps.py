"""From a recorded pass to one result for each image: what the methods share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from explainers.maps import normalise
from explainers.recorder import Recording
from explainers.result import Explanation, ImageResult
from explainers.targets import Targets, resolve

RawMap = Callable[[Tensor], Tensor]
"""Takes a seed of shape (batch, classes), one-hot in each row, to raw maps of shape (batch, h, w)."""


def explain_recording(recording: Recording, targets: Sequence[Targets], raw_map: RawMap) -> list[ImageResult]:
    """Explain every target of every image of a recorded batch.

    `raw_map` is called once for each rank: first for the first target of every image, then for the second ones, ...

    Raises:
        InvalidTargetError: a class index is outside the network's.
    """
    logits = recording.logits.float().cpu()
    classes = resolve(targets, logits)
    ranks = max((len(row) for row in classes), default=0)
    if ranks == 0:
        return [ImageResult(row, ()) for row in logits]
    raw = torch.stack([raw_map(seed) for seed in _seeds(classes, ranks, recording.logits)])
    return _results(logits, classes, raw.detach().float().cpu())  # fetched at once, so that a GPU never waits between


def _seeds(classes: list[tuple[int, ...]], ranks: int, logits: Tensor) -> Tensor:
    """One-hot seeds, shape (ranks, batch, classes); a row of zeros where an image has fewer targets than others."""
    seeds = torch.zeros(ranks, *logits.shape)
    for image, row in enumerate(classes):
        for rank, index in enumerate(row):
            seeds[rank, image, index] = 1
    return seeds.to(logits)


def _results(logits: Tensor, classes: list[tuple[int, ...]], raw: Tensor) -> list[ImageResult]:
    """Results of raw maps of shape (ranks, batch, h, w)."""
    ranks, batch = raw.shape[:2]
    normalised = normalise(raw.flatten(0, 1))
    maps = normalised.maps.view(raw.shape)
    minimum, maximum, degenerate = (
        values.view(ranks, batch).tolist() for values in (normalised.minimum, normalised.maximum, normalised.degenerate)
    )

    def explanation(image: int, rank: int, target: int) -> Explanation:
        ends = minimum[rank][image], maximum[rank][image]
        return Explanation(target, maps[rank, image], *ends, degenerate=degenerate[rank][image])

    return [
        ImageResult(logits[image], tuple(explanation(image, rank, target) for rank, target in enumerate(row)))
        for image, row in enumerate(classes)
    ]
