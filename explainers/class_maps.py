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

RawMaps = Callable[[Tensor], Tensor]
"""The same for seeds of shape (ranks, batch, classes), to raw maps of shape (ranks, batch, h, w)."""


def explain_recording(recording: Recording, targets: Sequence[Targets], raw_map: RawMap) -> list[ImageResult]:
    """Explain every target of every image of a recorded batch, as `explain_logits` does."""
    return explain_logits(recording.logits, targets, raw_map)


def explain_logits(scores: Tensor, targets: Sequence[Targets], raw_map: RawMap) -> list[ImageResult]:
    """Explain every target of every image of a batch.

    `raw_map` is called once for each rank: first for the first target of every image, then for the second ones, ...

    Args:
        scores: the logits, shape (batch, classes), in the network's precision and on its device: seeds get both.
        targets: one entry for each image.
        raw_map: makes the maps.

    Raises:
        InvalidTargetError: a class index is outside the network's.
    """
    return explain_ranks(scores, targets, lambda seeds: torch.stack([raw_map(seed) for seed in seeds]))


def explain_ranks(scores: Tensor, targets: Sequence[Targets], raw_maps: RawMaps) -> list[ImageResult]:
    """As `explain_logits`, with one call for all ranks: for methods that share work between the targets."""
    logits = scores.detach().float().cpu()
    classes = resolve(targets, logits)
    ranks = max((len(row) for row in classes), default=0)
    if ranks == 0:
        return [ImageResult(row, ()) for row in logits]
    raw = raw_maps(_seeds(classes, ranks, scores)).detach().float().cpu()  # at once: a GPU never waits in between
    return _results(logits, classes, raw.masked_fill(_scoreless(classes, ranks, logits), torch.nan))


def _seeds(classes: list[tuple[int, ...]], ranks: int, logits: Tensor) -> Tensor:
    """One-hot seeds, shape (ranks, batch, classes); a row of zeros where an image has fewer targets than others."""
    seeds = torch.zeros(ranks, *logits.shape)
    for image, row in enumerate(classes):
        for rank, index in enumerate(row):
            seeds[rank, image, index] = 1
    return seeds.to(logits)


def _scoreless(classes: list[tuple[int, ...]], ranks: int, logits: Tensor) -> Tensor:
    """Where a target's score is not finite, shape (ranks, batch, 1, 1): ReLU hides that from gradients."""
    scoreless = torch.zeros(ranks, len(logits), 1, 1, dtype=torch.bool)
    for image, row in enumerate(classes):
        for rank, index in enumerate(row):
            scoreless[rank, image] = not logits[image, index].isfinite()
    return scoreless


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
