"""Puts the parts together, starts them in order and stops them in the reverse one."""

import contextlib
import logging
from collections.abc import AsyncIterator

from grpc_health.v1 import health

from service import parts
from service.admission import Admission, limits
from service.catalog import Catalog
from service.costs import Costs
from service.draining import Drain, DrainInterceptor
from service.explaining import Explaining
from service.identity.interceptor import IdentityInterceptor
from service.inference.servicer import InferenceServicer
from service.interceptors import CallInterceptor
from service.jobs.jobs import Jobs
from service.jobs.servicer import OperationsServicer
from service.listening import Servicers, grpc_server, metrics_endpoint
from service.metrics import Metrics
from service.monitor import Monitor
from service.progress.hub import Hub
from service.progress.patience import Patience
from service.servicer import ExplanationServicer
from service.settings import Settings
from service.starting import Running
from service.streaming import Streaming
from service.throttling import Throttle, ThrottleInterceptor
from service.torchserve.client import WorkerClient
from service.work import Workers
from service.worker import start_worker

# Seconds for the last answers to leave, and for whoever watches the health to have seen the end.
STOP_GRACE = 1.0

logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Run the service for the length of a block; at its end, answer what was accepted and stop the workers.

    The API answers from the beginning, and says NOT_SERVING until every model is ready.

    Raises:
        StartError: a port is taken, there is no Java, an archive cannot be built, or a file cannot be used.
    """
    metrics, catalog, costs, policy = Metrics(), Catalog(), Costs(), parts.policy_of(settings)
    admission, patience = Admission(limits(settings), metrics, costs), Patience(Hub(), metrics)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        worker = await enter(start_worker(settings, quality=policy.measures_anything))
        for name, lanes in worker.models.items():
            catalog.declare(name, lanes)
        client = WorkerClient(worker.endpoint)
        stack.push_async_callback(client.close)
        metrics_url = stack.enter_context(metrics_endpoint(settings, metrics))
        sampler = await enter(parts.sampling(settings, policy, catalog, client, metrics))
        await enter(patience.running())
        workers = Workers(catalog, admission, client, costs, patience, settings.longest_timeout)
        work = await enter(parts.kept(settings, workers, catalog, metrics))
        explaining = Explaining(work, metrics, sampler)
        gate = await enter(parts.identity(settings))
        traces = await enter(parts.traces_of(settings))
        jobs = await enter(parts.jobs_of(settings, catalog, explaining, gate, metrics, traces))
        drain = Drain()
        servicers = Servicers(
            ExplanationServicer(settings, catalog, explaining, Streaming(explaining, work), jobs, costs),
            OperationsServicer(jobs, settings.default_timeout),
            InferenceServicer(settings, catalog, explaining, lambda: drain.begun),
            health.aio.HealthServicer(),
        )
        interceptors = [
            ThrottleInterceptor(Throttle(), metrics.throttled_call),
            CallInterceptor(metrics, traces),
            IdentityInterceptor(gate),
            DrainInterceptor(drain),
        ]
        server, address = grpc_server(settings, servicers, interceptors)
        monitor = Monitor(
            client,
            catalog,
            servicers.health,
            metrics,
            interval=settings.health_interval,
            discover=settings.external_worker,
            restarts=worker.restarts,
        )
        await enter(monitor.running())
        await server.start()
        try:
            yield Running(address, metrics_url, monitor)
        finally:
            await servicers.health.enter_graceful_shutdown()
            await _finish(jobs, drain, settings.drain_timeout)
            await server.stop(STOP_GRACE)


async def _finish(jobs: Jobs, drain: Drain, timeout: float) -> None:
    """Answer what was accepted, within `timeout` seconds."""
    logger.info("draining: answering what was accepted")
    await jobs.drain()
    late = await drain.finish(timeout)
    if late:
        logger.warning("%d requests were not answered in time", late)
