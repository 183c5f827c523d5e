"""Runs the jobs, a few at a time, until each has ended."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from weakref import WeakValueDictionary

from protos.explain.v1 import explanation_service_pb2 as api
from protos.worker.v1 import worker_pb2
from service.background import repeated
from service.errors import (
    DeadlineError,
    DrainingError,
    InternalError,
    JobsFullError,
    NoRoomError,
    OutOfMemoryError,
    ServiceError,
    WorkerUnavailableError,
)
from service.interceptors import log_fault
from service.jobs.execution import NotBegunError
from service.jobs.job import Ending, Job
from service.jobs.outcome import failed, succeeded
from service.jobs.store import JobStore
from service.metrics import Metrics
from service.watching import Watch

MOST_ATTEMPTS = 3  # a job that kills its worker, or the service, does not get another chance for ever
POLL = 0.5  # seconds between two looks for jobs that have waited for another try long enough
SWEEP_INTERVAL = 10.0
LONGEST_WAIT = 60.0
LONGEST_WAIT_FOR_WORKERS = 5.0  # less: to look whether they are there costs nobody anything

Perform = Callable[[Job, bytes, Watch], Awaitable[api.ExplainResponse]]

logger = logging.getLogger(__name__)


class _Progress:
    """A job's watch: the last step, in memory only. A job that begins anew begins at the first step."""

    def __init__(self) -> None:
        self.last: worker_pb2.Progress | None = None

    def progress(self, progress: worker_pb2.Progress) -> None:
        self.last = progress


class Runner:
    """Begins jobs while there are places, and writes down how they end.

    A job that found no room waits, longer each time, until its own time is over. One whose worker died is tried
    MOST_ATTEMPTS times.
    """

    def __init__(
        self, store: JobStore, perform: Perform, metrics: Metrics, concurrency: int, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._perform = perform
        self._metrics = metrics
        self._concurrency = concurrency
        self._clock = clock
        self._lock = asyncio.Lock()  # between claiming a job and having a task for it, nobody may end it
        self._work: dict[str, asyncio.Task[api.ExplainResponse]] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, _Progress] = {}
        self._ends: dict[str, ServiceError] = {}
        self._waits: Counter[str] = Counter()
        self._ended: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._wake = asyncio.Event()
        self._recovered = False
        self.stopping = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run jobs for the length of a block; those that have not ended by then wait for the next service."""
        self._wake.set()
        async with repeated(self._look, 0), repeated(self._sweep, SWEEP_INTERVAL):
            try:
                yield
            finally:
                await self.stop()

    async def stop(self) -> None:
        """Begin no more jobs, put the running ones back, and let nobody wait longer. May be called again."""
        async with self._lock:
            self.stopping.set()
        for event in self._ended.values():
            event.set()
        for work in self._work.values():
            work.cancel()
        if self._runs:
            await asyncio.wait(self._runs.values())
            with contextlib.suppress(ServiceError):  # else it counts as an attempt
                await self._store.requeue(counts=False)

    async def added(self) -> None:
        """Look for a job that is new."""
        self._wake.set()
        await self._count()

    async def end(self, name: str, error: ServiceError) -> None:
        """End a job early with an error. Does nothing where it has ended by itself."""
        async with self._lock:
            work, run = self._work.get(name), self._runs.get(name)
            if work is not None:
                self._ends[name] = error
                work.cancel()
        if work is None or run is None:
            ending = failed(error)
            await self._announce(name, ending, await self._store.finish(name, ending, self._clock()))
        else:
            await asyncio.wait({run})

    def progress(self, name: str) -> worker_pb2.Progress | None:
        """How far a running job is, where its method tells."""
        progress = self._progress.get(name)
        return None if progress is None else progress.last

    def ending(self, name: str) -> asyncio.Event:
        """Is set when a job ends or is deleted, and when the service stops."""
        event = self._ended.setdefault(name, asyncio.Event())
        if self.stopping.is_set():
            event.set()
        return event

    def tell(self, name: str) -> None:
        """Wake whoever waits for a job."""
        event = self._ended.pop(name, None)
        if event is not None:
            event.set()

    async def _look(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL):
                await self._wake.wait()
        self._wake.clear()
        async with self._lock:
            if not self._recovered:  # here, so that a full disk does not keep the service from starting
                await self._store.requeue(counts=True)
                self._recovered = True
            while len(self._runs) < self._concurrency and not self.stopping.is_set():
                claimed = await self._store.claim(self._clock())
                if claimed is None:
                    break
                self._begin(*claimed)
        await self._count()

    def _begin(self, job: Job, request: bytes) -> None:
        watch = self._progress[job.name] = _Progress()
        self._work[job.name] = work = asyncio.create_task(self._try(job, request, watch))
        self._runs[job.name] = asyncio.create_task(self._run(job, work))

    async def _try(self, job: Job, request: bytes, watch: Watch) -> api.ExplainResponse:
        if job.attempts > MOST_ATTEMPTS:
            raise InternalError("the service ended several times while it worked on this job", reason="JOB_ABANDONED")
        return await self._perform(job, request, watch)

    async def _run(self, job: Job, work: "asyncio.Task[api.ExplainResponse]") -> None:
        try:
            await asyncio.wait({work})
            del self._work[job.name]
            await self._conclude(job, work)
        except Exception as error:
            log_fault(error, job.name)
        finally:
            self._work.pop(job.name, None)
            self._progress.pop(job.name, None)
            self._ends.pop(job.name, None)
            self._runs.pop(job.name)
            self._wake.set()

    async def _conclude(self, job: Job, work: "asyncio.Task[api.ExplainResponse]") -> None:
        if work.cancelled():
            early = self._ends.get(job.name)
            if early is not None:
                await self._record(job.name, failed(early))
            return  # else the service stops
        match work.exception():
            case None:
                await self._record(job.name, succeeded(work.result()))
            case NotBegunError() as error:
                await self._postpone(job, error.retry_after, LONGEST_WAIT_FOR_WORKERS, counts=False)
            case (NoRoomError() | DrainingError()) as error:
                await self._postpone(job, error.retry_after or 1.0, LONGEST_WAIT, counts=False)
            case (WorkerUnavailableError() | OutOfMemoryError()) as error if job.attempts < MOST_ATTEMPTS:
                await self._postpone(job, error.retry_after or 1.0, LONGEST_WAIT, counts=True)
            case ServiceError() as error:
                await self._record(job.name, failed(error))
            case BaseException() as error:
                await self._record(job.name, failed(log_fault(error, job.name)))

    async def _postpone(self, job: Job, delay: float, longest: float, *, counts: bool) -> None:
        wait = min(longest, delay * 2 ** min(self._waits[job.name], 8))
        self._waits[job.name] += 1
        await self._persist(lambda: self._store.postpone(job.name, self._clock() + wait, counts=counts))

    async def _record(self, name: str, ending: Ending) -> None:
        """Write down how a job has ended, as soon as the disk has room for it."""
        try:
            job = await self._persist(lambda: self._store.finish(name, ending, self._clock()))
        except JobsFullError as error:
            ending = failed(error)
            job = await self._persist(lambda: self._store.finish(name, ending, self._clock()))
        await self._announce(name, ending, job)

    async def _announce(self, name: str, ending: Ending, job: Job | None) -> None:
        """Tell everybody of the end of a job; None where another end was written down before."""
        self._waits.pop(name, None)
        self.tell(name)
        if job is not None:
            self._metrics.jobs.ended(job.model, job.method, ending.code, self._clock() - job.created)
            logger.info("%s ended: %s", name, ending.code)
        await self._count()

    async def _persist(self, write: Callable[[], Awaitable[Any]]) -> Any:
        """Write, and where that is not possible try again until it is, or the service stops: a result is worth it."""
        wait = POLL
        while True:
            try:
                return await write()
            except ServiceError as error:
                if isinstance(error, JobsFullError) or self.stopping.is_set():
                    raise
                logger.error("the jobs database refuses a write: %s", error.reason)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.stopping.wait()
            wait = min(LONGEST_WAIT, 2 * wait)

    async def _sweep(self) -> None:
        for name in await self._store.forget_expired(self._clock()):
            await self.end(name, DeadlineError("the job's time was over before it had ended", reason="JOB_EXPIRED"))
        await self._count()

    async def _count(self) -> None:
        with contextlib.suppress(ServiceError):
            counts = await self._store.counts()
            self._metrics.jobs.counted({str(state): count for state, count in counts.items()})
