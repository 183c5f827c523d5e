"""Computes a batch: items that ask for the same share a pass, and nobody's failure is anybody else's."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from explainers import ImageResult, Method, Stepwise
from explainers.arithmetic import Arithmetic, computing
from handlers.errors import WorkError
from handlers.faults import release_memory, to_work_error
from handlers.jobs import Job
from handlers.loading import LoadedModel
from handlers.transfer import stack
from handlers.waiting import GroupWatch, gone
from runtimes import RUNTIME


@dataclass(frozen=True)
class Way:
    """How an item is computed. It must not depend on the item's neighbours.

    Attributes:
        fast: by the model's fast path, not by its network.
        arithmetic: of torch.
        runtime: the library that computes.
    """

    fast: bool
    arithmetic: Arithmetic
    runtime: str


@dataclass(frozen=True)
class Computed:
    """What the network and the method say of one item.

    Attributes:
        result: logits and, where there is a method, explanations.
        began: Unix time in nanoseconds at which the group's computation began.
        seconds: time of the whole group.
        way: how it was computed.
        partial: where the method was stopped before its last step: the steps that were done, and that there would have
            been.
    """

    result: ImageResult
    began: int
    seconds: float
    way: Way
    partial: tuple[int, int] | None = None


Outcome = Computed | WorkError


def compute(jobs: Sequence[Job], model: LoadedModel) -> list[Outcome]:
    """One outcome for each job, in their order.

    Raises:
        DeviceLostError: the GPU does not answer any more.
    """
    groups: dict[tuple[Method | None, bool, Way], list[int]] = {}
    for position, job in enumerate(jobs):
        groups.setdefault((job.method, job.allow_partial, _way(job, model)), []).append(position)
    outcomes: dict[int, Outcome] = {}
    for (_, _, way), positions in groups.items():
        results = _run_group([jobs[position] for position in positions], model, way)
        outcomes.update(zip(positions, results, strict=True))
    return [outcomes[position] for position in range(len(jobs))]


def _way(job: Job, model: LoadedModel) -> Way:
    if model.fast is not None and model.fast.serves(job.method, [job.targets]):
        return Way(fast=True, arithmetic=Arithmetic.FLOAT32, runtime=RUNTIME)
    # Figures of quality compare maps, or a map with the network's scores: one arithmetic for all of them.
    measured = job.quality.metrics or job.quality.compare_with is not None
    arithmetic = Arithmetic.FLOAT32 if measured else model.arithmetic_of(job.method)
    return Way(fast=False, arithmetic=arithmetic, runtime=model.runtime)


def _run_group(jobs: Sequence[Job], model: LoadedModel, way: Way) -> list[Outcome]:
    """Leave out those for whom nobody waits, and compute the others together."""
    reasons = [gone(job) for job in jobs]
    waiting = [job for job, reason in zip(jobs, reasons, strict=True) if reason is None]
    computed = iter(_run_together(waiting, model, way))
    return [reason or next(computed) for reason in reasons]


def _run_together(jobs: Sequence[Job], model: LoadedModel, way: Way) -> list[Outcome]:
    """Compute in one pass; where that fails, one at a time and in float32, so that only the culprit fails."""
    if not jobs:
        return []
    failure: list[Outcome] = []
    began, started = time.time_ns(), time.perf_counter()
    try:
        results, partial = _explain(jobs, model, way)
        seconds = time.perf_counter() - started
        return [Computed(result, began, seconds, way, partial) for result in results]
    except Exception as error:
        if len(jobs) == 1 and (way.arithmetic is Arithmetic.FLOAT32 or isinstance(error, WorkError)):
            failure = [to_work_error(error, jobs[0].request_id)]
    # Out here the exception is gone, and with it what held the tensors of the failed pass.
    model.network.graphs.clear()
    release_memory(model.device)
    exactly = replace(way, arithmetic=Arithmetic.FLOAT32)
    return failure or [outcome for job in jobs for outcome in _run_group([job], model, exactly)]


def _explain(jobs: Sequence[Job], model: LoadedModel, way: Way) -> tuple[list[ImageResult], tuple[int, int] | None]:
    """The results of jobs, and the step at which they were stopped early."""
    images = stack([job.pixels for job in jobs], model.network.device)
    method = jobs[0].method
    targets = [job.targets for job in jobs]
    stopped = None
    if model.fast is not None and way.fast:
        results = model.fast.explain(method, images, targets) if method else _scored(model.fast.predict(images))
    else:
        with computing(model.network, way.arithmetic) as network:
            if isinstance(method, Stepwise):
                watch = GroupWatch(jobs, stops=method.partial)
                results = method.explain(network, images, targets, watch=watch)
                stopped = watch.stopped
            elif method is not None:
                results = method.explain(network, images, targets)
            else:
                results = _scored(network.predict(images))
    if not all(result.logits.isfinite().all() for result in results):
        raise ArithmeticError("the network returned a score that is not finite")
    if way.arithmetic is not Arithmetic.FLOAT32 and not all(_is_finite(result) for result in results):
        raise ArithmeticError("a map is not finite, as it may be in float32")
    return results, stopped


def _scored(logits: Tensor) -> list[ImageResult]:
    return [ImageResult(row, ()) for row in logits.float().cpu()]


def _is_finite(result: ImageResult) -> bool:
    return all(math.isfinite(item.raw_minimum) for item in result.explanations)
