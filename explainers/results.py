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
    # Everything is put on the device before the first result is fetched, so a GPU never waits in between.
    raw = [raw_map(seed) for seed in _seeds(classes, ranks, recording.logits)]
    return _results(logits, classes, raw)


def _seeds(classes: list[tuple[int, ...]], ranks: int, logits: Tensor) -> Tensor:
    """One-hot seeds, shape (ranks, batch, classes); a row of zeros where an image has fewer targets than others."""
    seeds = torch.zeros(ranks, *logits.shape)
    for image, row in enumerate(classes):
        for rank, index in enumerate(row):
            seeds[rank, image, index] = 1
    return seeds.to(logits)


def _results(logits: Tensor, classes: list[tuple[int, ...]], raw: list[Tensor]) -> list[ImageResult]:
    explanations: list[list[Explanation]] = [[] for _ in classes]
    for rank, maps in enumerate(raw):
        normalised = normalise(maps.detach().float().cpu())
        for image, row in enumerate(classes):
            if rank < len(row):
                explanations[image].append(
                    Explanation(
                        target=row[rank],
                        map=normalised.maps[image],
                        raw_minimum=normalised.minimum[image].item(),
                        raw_maximum=normalised.maximum[image].item(),
                        degenerate=bool(normalised.degenerate[image]),
                    )
                )
    return [ImageResult(logits[image], tuple(items)) for image, items in enumerate(explanations)]
