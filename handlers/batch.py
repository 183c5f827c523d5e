"""Computes a batch: items that ask for the same share a pass, and nobody's failure is anybody else's."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explainers import ImageResult, Method, Stepwise
from handlers.errors import WorkError
from handlers.faults import release_memory, to_work_error
from handlers.jobs import Job
from handlers.loading import LoadedModel
from handlers.waiting import GroupWatch, gone
from runtimes import RUNTIME

TORCH = "torch"


@dataclass(frozen=True)
class Computed:
    """What the network and the method say of one item.

    Attributes:
        result: logits and, where there is a method, explanations.
        began: Unix time in nanoseconds at which the group's computation began.
        seconds: time of the whole group.
        partial: where the method was stopped before its last step: the steps that were done, and that there would have
            been.
        runtime: the library that computed the logits and the maps.
    """

    result: ImageResult
    began: int
    seconds: float
    partial: tuple[int, int] | None = None
    runtime: str = TORCH


Outcome = Computed | WorkError
_Answers = tuple[list[ImageResult], tuple[int, int] | None, str]


def compute(jobs: Sequence[Job], model: LoadedModel) -> list[Outcome]:
    """One outcome for each job, in their order.

    Raises:
        DeviceLostError: the GPU does not answer any more.
    """
    groups: dict[tuple[Method | None, bool, bool], list[int]] = {}
    for position, job in enumerate(jobs):
        # Who computes an answer must not depend on its neighbours.
        fast = model.fast is not None and model.fast.serves(job.method, [job.targets])
        groups.setdefault((job.method, job.allow_partial, fast), []).append(position)
    outcomes: dict[int, Outcome] = {}
    for positions in groups.values():
        results = _run_group([jobs[position] for position in positions], model)
        outcomes.update(zip(positions, results, strict=True))
    return [outcomes[position] for position in range(len(jobs))]


def _run_group(jobs: Sequence[Job], model: LoadedModel) -> list[Outcome]:
    """Leave out those for whom nobody waits, and compute the others together."""
    reasons = [gone(job) for job in jobs]
    waiting = [job for job, reason in zip(jobs, reasons, strict=True) if reason is None]
    computed = iter(_run_together(waiting, model))
    return [reason or next(computed) for reason in reasons]


def _run_together(jobs: Sequence[Job], model: LoadedModel) -> list[Outcome]:
    """Compute in one pass; where that fails, one at a time, so that only the culprit fails."""
    if not jobs:
        return []
    failure: list[Outcome] = []
    began, started = time.time_ns(), time.perf_counter()
    try:
        results, partial, runtime = _explain(jobs, model)
        seconds = time.perf_counter() - started
        return [Computed(result, began, seconds, partial, runtime) for result in results]
    except Exception as error:
        if len(jobs) == 1:
            failure = [to_work_error(error, jobs[0].request_id)]
    # Out here the exception is gone, and with it what held the tensors of the failed pass.
    release_memory(model.device)
    return failure or [outcome for job in jobs for outcome in _run_group([job], model)]


def _explain(jobs: Sequence[Job], model: LoadedModel) -> _Answers:
    """The results of jobs, the step at which they were stopped early, and the library that computed them."""
    images = torch.stack([job.pixels for job in jobs])
    method = jobs[0].method
    targets = [job.targets for job in jobs]
    network, fast = model.network, model.fast
    stopped, runtime = None, TORCH
    if fast is not None and fast.serves(method, targets):
        runtime = RUNTIME
        results = fast.explain(method, images, targets) if method else _scored(fast.predict(images))
    elif isinstance(method, Stepwise):
        watch = GroupWatch(jobs, stops=method.partial)
        results = method.explain(network, images, targets, watch=watch)
        stopped = watch.stopped
    elif method is not None:
        results = method.explain(network, images, targets)
    else:
        results = _scored(network.predict(images))
    if not all(result.logits.isfinite().all() for result in results):
        raise ArithmeticError("the network returned a score that is not finite")
    return results, stopped, runtime


def _scored(logits: Tensor) -> list[ImageResult]:
    return [ImageResult(row, ()) for row in logits.float().cpu()]
