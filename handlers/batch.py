"""Computes a batch: items that ask for the same share a pass, and nobody's failure is anybody else's."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from explainers import ImageResult, Method, Network
from handlers.errors import DeadlineError, WorkError
from handlers.faults import release_memory, to_work_error
from handlers.jobs import Job


@dataclass(frozen=True)
class Computed:
    """What the network and the method say of one item.

    Attributes:
        result: logits and, where there is a method, explanations.
        seconds: time of the whole group.
    """

    result: ImageResult
    seconds: float


Outcome = Computed | WorkError


def compute(jobs: Sequence[Job], network: Network) -> list[Outcome]:
    """One outcome for each job, in their order.

    Raises:
        DeviceLostError: the GPU does not answer any more.
    """
    groups: dict[Method | None, list[int]] = {}
    for position, job in enumerate(jobs):
        groups.setdefault(job.method, []).append(position)
    outcomes: dict[int, Outcome] = {}
    # Predictions first: they are quick, and somebody waits for them.
    for method in sorted(groups, key=lambda method: method is not None):
        positions = groups[method]
        results = _run_group([jobs[position] for position in positions], network)
        outcomes.update(zip(positions, results, strict=True))
    return [outcomes[position] for position in range(len(jobs))]


def _run_group(jobs: Sequence[Job], network: Network) -> list[Outcome]:
    """Leave out who is too late, and compute the others together."""
    now = time.time()
    late = [job.deadline <= now for job in jobs]
    computed = iter(_run_together([job for job, is_late in zip(jobs, late, strict=True) if not is_late], network))
    return [DeadlineError("the deadline has passed") if is_late else next(computed) for is_late in late]


def _run_together(jobs: Sequence[Job], network: Network) -> list[Outcome]:
    """Compute in one pass; where that fails, one at a time, so that only the culprit fails."""
    if not jobs:
        return []
    started = time.perf_counter()
    try:
        results = _explain(jobs, network)
        seconds = time.perf_counter() - started
        return [Computed(result, seconds) for result in results]
    except Exception as error:
        failure = error
        # The frames of the failed pass hold its tensors.
        failure.__traceback__ = failure.__traceback__ if len(jobs) == 1 else None
    release_memory(network.device)
    if len(jobs) == 1:
        return [to_work_error(failure, jobs[0].request_id)]
    return [outcome for job in jobs for outcome in _run_group([job], network)]


def _explain(jobs: Sequence[Job], network: Network) -> list[ImageResult]:
    images = torch.stack([job.pixels for job in jobs])
    method = jobs[0].method
    if method is not None:
        results = method.explain(network, images, [job.targets for job in jobs])
    else:
        results = [ImageResult(row, ()) for row in network.predict(images).float().cpu()]
    if not all(result.logits.isfinite().all() for result in results):
        raise ArithmeticError("the network returned a score that is not finite")
    return results
