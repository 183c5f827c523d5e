"""What clients may do with jobs: only ever with their own."""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable

from google.longrunning import operations_pb2

from protos.explain.v1 import explanation_service_pb2 as api
from service import observation
from service.catalog import Catalog
from service.converters import to_command
from service.errors import (
    DrainingError,
    JobCancelledError,
    JobConflictError,
    JobNotFoundError,
    ModelNotFoundError,
)
from service.explaining import Explaining
from service.jobs.checks import Limits, to_page, to_times, to_token
from service.jobs.job import Job
from service.jobs.outcome import PREFIX, to_operation
from service.jobs.runner import Runner
from service.jobs.store import JobStore

PAGE_BYTES = 3 * 1024 * 1024  # of results; gRPC clients take 4 MiB by default


class Jobs:
    """Makes, shows, ends and forgets the jobs of the present caller; another client's job is not there."""

    def __init__(
        self,
        store: JobStore,
        runner: Runner,
        catalog: Catalog,
        explaining: Explaining,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._runner = runner
        self._catalog = catalog
        self._explaining = explaining
        self._limits = limits
        self._clock = clock
        self._creating = asyncio.Lock()

    async def create(self, request: api.CreateExplanationJobRequest) -> operations_pb2.Operation:
        """Make a job, or find the one that the same request has made before.

        Raises:
            ServiceError: what Explain would answer at once; REQUEST_ID_REUSED, JOBS_FULL, or no place to keep it.
        """
        if self._runner.stopping.is_set():
            raise DrainingError("the service is shutting down")
        digest = await asyncio.to_thread(_digest, request)  # of a large image it takes a while
        timeout, ttl = to_times(request, self._limits)
        async with self._creating:
            job = await self._made_before(request.request_id, digest)
            if job is None:
                job = await self._make(request, digest, timeout, ttl)
        return self._show(job)

    async def get(self, name: str) -> operations_pb2.Operation:
        """A job as it is now.

        Raises:
            JobNotFoundError: the caller has no such job.
        """
        return self._show(await self._find(name))

    async def page(self, request: operations_pb2.ListOperationsRequest) -> operations_pb2.ListOperationsResponse:
        """Some of the caller's jobs, newest first.

        Raises:
            InvalidRequestError: filter, page size or page token is not acceptable.
        """
        page = to_page(request)
        jobs, last = await self._store.page(_caller(), page.done, page.before, page.limit, PAGE_BYTES)
        return operations_pb2.ListOperationsResponse(
            operations=[self._show(job) for job in jobs], next_page_token="" if last is None else to_token(last)
        )

    async def cancel(self, name: str) -> None:
        """End a job; one that has ended stays as it is.

        Raises:
            JobNotFoundError: the caller has no such job.
        """
        job = await self._find(name)
        if job.ended is None:
            await self._runner.end(job.name, JobCancelledError("the job was cancelled"))

    async def delete(self, name: str) -> None:
        """Forget a job with its result; one that has not ended is cancelled before.

        Raises:
            JobNotFoundError: the caller has no such job.
        """
        await self.cancel(name)
        await self._store.delete(_caller(), name.removeprefix(PREFIX))
        self._runner.tell(name.removeprefix(PREFIX))

    async def wait(self, name: str, timeout: float) -> operations_pb2.Operation:
        """A job when it has ended, or as it is after `timeout` seconds, or when the service stops.

        Raises:
            JobNotFoundError: the caller has no such job.
        """
        ending = self._runner.ending(name.removeprefix(PREFIX))  # before looking: it may end in between
        if (await self._find(name)).ended is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await ending.wait()
        return await self.get(name)

    async def drain(self) -> None:
        """Take no more jobs, and let the running ones wait for the next start of the service."""
        await self._runner.stop()

    def _show(self, job: Job) -> operations_pb2.Operation:
        return to_operation(job, self._runner.progress(job.name))

    async def _find(self, name: str) -> Job:
        job = await self._store.get(_caller(), name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
        if job is None:
            raise JobNotFoundError("no such operation")
        return job

    async def _made_before(self, request_id: str, digest: bytes) -> Job | None:
        job = await self._store.find(_caller(), request_id) if request_id else None
        if job is not None and job.digest != digest:
            raise JobConflictError("this request_id stands for another request")
        return job

    async def _make(self, request: api.CreateExplanationJobRequest, digest: bytes, timeout: float, ttl: float) -> Job:
        seen, asked = observation.current(), request.request
        model = self._catalog.get(asked.model)  # it may be without workers now: the job waits for them
        seen.model = model.name
        if asked.model_version not in ("", model.known.version):
            raise ModelNotFoundError("the model is not deployed in this version; GetModel names the deployed one")
        command = to_command.to_explain_command(asked, model, self._limits.max_image_bytes)
        body, now = asked.SerializeToString(), self._clock()
        await self._store.check_room(seen.caller.name, len(body))
        self._explaining.charge(command)
        job = Job(
            name=secrets.token_hex(16),
            client=seen.caller.name,
            request_id=request.request_id,
            digest=digest,
            model=model.name,
            method=seen.method,
            timeout=timeout,
            ttl=ttl,
            created=now,
            expires=now + ttl,
        )
        await self._store.add(job, body)
        await self._runner.added()
        return job


def _digest(request: api.CreateExplanationJobRequest) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def _caller() -> str:
    return observation.current().caller.name
