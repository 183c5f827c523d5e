"""Who still waits for a piece of work, and what becomes of it when the time runs out."""

import math
import time
from collections.abc import Sequence

from explainers import ImageResult
from handlers.converters import from_map
from handlers.errors import CancelledWorkError, DeadlineError, WorkError
from handlers.jobs import Job
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2

# What is left of the time for figures, pictures and the way back when a method is stopped: this share of what there was
# when it began, and no less than these seconds; and the length of its last step, because the next one takes as long.
RESERVE_SHARE = 0.1
LEAST_RESERVE = 0.1
# Maps so far may take this share of the time.
MAPS_SHARE = 0.1


def gone(job: Job) -> WorkError | None:
    """Why nobody waits for a job any more; None while somebody does."""
    if job.line.hung_up:
        return CancelledWorkError("the request was given up")
    if job.deadline <= time.time():
        return DeadlineError("the deadline has passed")
    return None


class GroupWatch:
    """Watches the steps of jobs that are computed together (an `explainers.MapWatch`).

    It gives them up when nobody waits for any of them. Where they allow it and `stops` says that the method can, it
    stops them shortly before their first deadline: a batch is answered as a whole, so who has the least time decides.

    Attributes:
        stopped: the step at which the method was stopped, and the steps that there would have been; None if it wasn't.
    """

    def __init__(self, jobs: Sequence[Job], stops: bool) -> None:
        """Begin; the jobs are equal in method and in `allow_partial`."""
        self.stopped: tuple[int, int] | None = None
        self._jobs = jobs
        self._stops = stops and all(job.allow_partial for job in jobs)
        self._began = self._last_step = time.time()
        self._maps: list[ImageResult] | None = None
        self._maps_asked = self._maps_next = -math.inf
        for job in jobs:
            job.line.open()

    def wants_maps(self) -> bool:
        """As `explainers.MapWatch.wants_maps`."""
        self._maps_asked = time.time()
        return self._maps_asked >= self._maps_next and any(job.line.due(maps=True) for job in self._jobs)

    def maps(self, results: list[ImageResult]) -> None:
        """As `explainers.MapWatch.maps`."""
        self._maps = results

    def step(self, done: int, total: int, objective: float) -> bool:
        """As `explainers.Watch.step`.

        Raises:
            WorkError: nobody waits any more.
        """
        waiting = [job for job in self._jobs if gone(job) is None]
        if not waiting:
            raise gone(self._jobs[0]) or DeadlineError("the deadline has passed")
        self._tell(done, total, objective)
        now = time.time()
        took, self._last_step = now - self._last_step, now
        if self._stops and done < total and any(now >= job.deadline - self._reserve(job) - took for job in waiting):
            self.stopped = (done, total)
            return True
        return False

    def _reserve(self, job: Job) -> float:
        return max(LEAST_RESERVE, RESERVE_SHARE * (job.deadline - self._began))

    def _tell(self, done: int, total: int, objective: float) -> None:
        progress = worker_pb2.Progress(step=done, steps=total)
        if len(self._jobs) == 1 and math.isfinite(objective):  # the mean over the images of several clients is nobody's
            progress.objective = objective
        for position, job in enumerate(self._jobs):
            own = worker_pb2.Progress(request_id=job.request_id)
            own.MergeFrom(progress)
            if self._maps is not None and job.line.due(maps=True):
                own.maps.extend(_target_maps(job, self._maps[position]))
            job.line.tell(own)
        if self._maps is not None:
            self._maps = None
            self._maps_next = time.time() + (time.time() - self._maps_asked) / MAPS_SHARE


def _target_maps(job: Job, result: ImageResult) -> list[types_pb2.TargetMap]:
    """The maps so far of one job, on their native grid."""
    to_image = job.plan.to_image((job.image.pixels.height, job.image.pixels.width))
    found = []
    for item in result.explanations:
        grid = (item.map.shape[0], item.map.shape[1])
        saliency = from_map(item, item.map, to_image.after_grid(grid, job.plan.size), input_resolution=False)
        found.append(types_pb2.TargetMap(target_index=item.target, map=saliency))
    return found
