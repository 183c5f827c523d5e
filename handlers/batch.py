"""Computes a batch: items that ask for the same share a pass, and nobody's failure is anybody else's."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from explainers import ImageResult, Method, Network, Stepwise
from handlers.errors import DeadlineError, WorkError
from handlers.faults import release_memory, to_work_error
from handlers.jobs import Job


@dataclass(frozen=True)
class Computed:
    """What the network and the method say of one item.

    Attributes:
        result: logits and, where there is a method, explanations.
        began: Unix time in nanoseconds at which the group's computation began.
        seconds: time of the whole group.
    """

    result: ImageResult
    began: int
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
    for positions in groups.values():
        results = _run_group([jobs[position] for position in positions], network)
        outcomes.update(zip(positions, results, strict=True))
    return [outcomes[position] for position in range(len(jobs))]


def _run_group(jobs: Sequence[Job], network: Network) -> list[Outcome]:
    """Leave out who is too late, and compute the others together."""
    now = time.time()
    computed = iter(_run_together([job for job in jobs if job.deadline > now], network))
    return [next(computed) if job.deadline > now else DeadlineError("the deadline has passed") for job in jobs]


def _run_together(jobs: Sequence[Job], network: Network) -> list[Outcome]:
    """Compute in one pass; where that fails, one at a time, so that only the culprit fails."""
    if not jobs:
        return []
    failure: list[Outcome] = []
    began, started = time.time_ns(), time.perf_counter()
    try:
        results = _explain(jobs, network)
        seconds = time.perf_counter() - started
        return [Computed(result, began, seconds) for result in results]
    except Exception as error:
        if len(jobs) == 1:
            failure = [to_work_error(error, jobs[0].request_id)]
    # Out here the exception is gone, and with it what held the tensors of the failed pass.
    release_memory(network.device)
    return failure or [outcome for job in jobs for outcome in _run_group([job], network)]


def _explain(jobs: Sequence[Job], network: Network) -> list[ImageResult]:
    images = torch.stack([job.pixels for job in jobs])
    method = jobs[0].method
    targets = [job.targets for job in jobs]
    if isinstance(method, Stepwise):
        results = method.explain(network, images, targets, watch=_WhileSomebodyWaits(jobs))
    elif method is not None:
        results = method.explain(network, images, targets)
    else:
        results = [ImageResult(row, ()) for row in network.predict(images).float().cpu()]
    if not all(result.logits.isfinite().all() for result in results):
        raise ArithmeticError("the network returned a score that is not finite")
    return results


class _WhileSomebodyWaits:
    """Gives a method that works in steps up when the last deadline of its group has passed."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._deadline = max(job.deadline for job in jobs)

    def step(self, done: int, total: int, objective: float) -> None:
        """As `explainers.Watch.step`.

        Raises:
            DeadlineError: nobody waits any more.
        """
        if self._deadline <= time.time():
            raise DeadlineError("the deadline passed while the map was computed")
