"""The parts of the service that settings turn on, each for the length of a block."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.background import repeated
from service.cache.store import Store
from service.cache.work import CachedWork
from service.catalog import Catalog
from service.explaining import Explaining
from service.identity.clients import load_clients
from service.identity.gate import Gate
from service.identity.watched import UnusableFileError, WatchedFiles
from service.jobs.database import UnusableDatabaseError
from service.jobs.jobs import Jobs
from service.jobs.start import running_jobs
from service.metrics import Metrics
from service.sampling.policy import Policy, PolicyError, Rule, load_policy
from service.sampling.sampler import Sampler
from service.sanity import SanityChecks
from service.settings import Settings
from service.starting import StartError
from service.torchserve.client import WorkerClient
from service.tracing import Tracing, TracingError, tracing
from service.work import Work

CHECK_INTERVAL = 5.0  # seconds between two looks for models that were not checked yet
TIDY_INTERVAL = 60.0  # seconds between two looks for answers that are too old
RELOAD_INTERVAL = 1.0  # seconds between two looks at the clients file


def policy_of(settings: Settings) -> Policy:
    """Which explanations are measured in the background."""
    if settings.quality_policy is not None:
        try:
            return load_policy(settings.quality_policy)
        except PolicyError as error:
            raise StartError(str(error)) from None
    return Policy(rules=(Rule(share=settings.quality_share, below_confidence=settings.quality_below_confidence),))


@contextlib.asynccontextmanager
async def sampling(
    settings: Settings, policy: Policy, catalog: Catalog, client: WorkerClient, metrics: Metrics
) -> AsyncIterator[Sampler | None]:
    """What measures the quality of explanations and checks the models, where the policy asks for it."""
    if not policy.measures_anything:
        yield None
        return
    sampler = Sampler(policy, client, metrics.quality, settings.quality_budget)
    checks = SanityChecks(catalog, client, metrics.quality)
    async with sampler.running(), repeated(checks.look, CHECK_INTERVAL):
        yield sampler


@contextlib.asynccontextmanager
async def kept(settings: Settings, work: Work, catalog: Catalog, metrics: Metrics) -> AsyncIterator[Work]:
    """The same work with its answers kept, unless the settings leave no room for them."""
    if not settings.cache_bytes:
        yield work
        return
    store = Store(settings.cache_bytes, settings.cache_seconds, metrics.cache)
    async with repeated(store.tidy, TIDY_INTERVAL):
        yield CachedWork(work, catalog, store, metrics.cache)


@contextlib.asynccontextmanager
async def identity(settings: Settings, interval: float = RELOAD_INTERVAL) -> AsyncIterator[Gate]:
    """The gate, which knows the clients file as it was at most `interval` seconds ago.

    Raises:
        StartError: the file cannot be used.
    """
    path = settings.clients_file
    if path is None:
        yield Gate(None)
        return
    try:
        clients = WatchedFiles("clients file", [path], lambda: load_clients(path))
    except UnusableFileError as error:
        raise StartError(str(error)) from None

    async def look() -> None:
        await asyncio.to_thread(clients.refresh)

    async with repeated(look, interval):
        yield Gate(lambda: clients.value)


@contextlib.asynccontextmanager
async def jobs_of(
    settings: Settings, catalog: Catalog, explaining: Explaining, gate: Gate, metrics: Metrics, traces: Tracing
) -> AsyncIterator[Jobs]:
    """Jobs, for the length of a block.

    Raises:
        StartError: their database cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            jobs = await stack.enter_async_context(running_jobs(settings, catalog, explaining, gate, metrics, traces))
        except UnusableDatabaseError as error:
            raise StartError(str(error)) from None
        yield jobs


@contextlib.asynccontextmanager
async def traces_of(settings: Settings) -> AsyncIterator[Tracing]:
    """What traces the calls.

    Raises:
        StartError: traces cannot be sent.
    """
    try:
        async with tracing(settings) as traces:
            yield traces
    except TracingError as error:
        raise StartError(str(error)) from None


