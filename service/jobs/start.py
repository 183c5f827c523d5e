"""Puts the parts of the jobs together."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from service.catalog import Catalog
from service.explaining import Explaining
from service.identity.gate import Gate
from service.jobs.checks import Limits
from service.jobs.execution import Execution
from service.jobs.jobs import Jobs
from service.jobs.runner import Runner
from service.jobs.store import JobStore
from service.metrics import Metrics
from service.settings import Settings
from service.tracing import Tracing


@contextlib.asynccontextmanager
async def running_jobs(
    settings: Settings,
    catalog: Catalog,
    explaining: Explaining,
    gate: Gate,
    metrics: Metrics,
    tracing: Tracing | None = None,
) -> AsyncIterator[Jobs]:
    """Jobs that are kept where the settings say, and worked on for the length of a block.

    Raises:
        UnusableDatabaseError: the database cannot be used.
    """
    path, per_client, most_bytes = settings.jobs_database, settings.jobs_per_client, settings.jobs_bytes
    store = await asyncio.to_thread(JobStore, path, per_client, most_bytes)
    try:
        execution = Execution(catalog, explaining, gate, settings.max_image_bytes, tracing)
        runner = Runner(store, execution.run, metrics, settings.jobs_concurrency, time.time)
        limits = Limits(settings.jobs_timeout, settings.jobs_ttl, settings.max_image_bytes)
        async with runner.running():
            yield Jobs(store, runner, catalog, explaining, limits, time.time)
    finally:
        await asyncio.to_thread(store.close)
