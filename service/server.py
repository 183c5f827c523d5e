"""Puts the parts together, starts them in order and stops them in the reverse one."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.admission import Admission, limits
from service.background import repeated
from service.cache.store import Store
from service.cache.work import CachedWork
from service.catalog import Catalog
from service.costs import Costs
from service.draining import Drain, DrainInterceptor
from service.explaining import Explaining
from service.identity.clients import load_clients
from service.identity.gate import Gate
from service.identity.interceptor import IdentityInterceptor
from service.identity.tls import server_credentials
from service.identity.watched import UnusableFileError, WatchedFiles
from service.interceptors import CallInterceptor
from service.jobs.database import UnusableDatabaseError
from service.jobs.jobs import Jobs
from service.jobs.servicer import NAME as OPERATIONS
from service.jobs.servicer import OperationsServicer
from service.jobs.start import running_jobs
from service.metrics import Metrics
from service.monitor import SERVICE, Monitor
from service.progress.hub import Hub
from service.progress.patience import Patience
from service.sampling.policy import Policy, PolicyError, Rule, load_policy
from service.sampling.sampler import Sampler
from service.sanity import SanityChecks
from service.servicer import ExplanationServicer
from service.settings import Settings
from service.streaming import Streaming
from service.torchserve.client import WorkerClient
from service.tracing import Tracing, TracingError, tracing
from service.work import Work, Workers
from service.worker import Worker, start_worker

ENVELOPE_BYTES = 64 * 1024
CHECK_INTERVAL = 5.0  # seconds between two looks for models that were not checked yet

TIDY_INTERVAL = 60.0  # seconds between two looks for answers that are too old
RELOAD_INTERVAL = 1.0  # seconds between two looks at the clients file

# Seconds for the last answers to leave, and for whoever watches the health to have seen the end.
STOP_GRACE = 1.0

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The service cannot start. The message is for the person who started it."""


@dataclass(frozen=True)
class Running:
    """A service that answers.

    Attributes:
        address: host:port of the gRPC API.
        metrics: URL of the Prometheus endpoint.
        monitor: knows when every model is ready.
    """

    address: str
    metrics: str
    monitor: Monitor


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Run the service for the length of a block; at its end, answer what was accepted and stop the workers.

    The API answers from the beginning, and says NOT_SERVING until every model is ready.

    Raises:
        StartError: a port is taken, there is no Java, an archive cannot be built, or a file cannot be used.
    """
    metrics, catalog, costs, policy = Metrics(), Catalog(), Costs(), _policy(settings)
    admission = Admission(limits(settings), metrics, costs)
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(start_worker(settings, quality=policy.measures_anything))
        for name, lanes in worker.models.items():
            catalog.declare(name, lanes)
        client = WorkerClient(worker.endpoint)
        stack.push_async_callback(client.close)
        metrics_url = stack.enter_context(_metrics_endpoint(settings, metrics))
        health_servicer = health.aio.HealthServicer()
        sampler = None
        if policy.measures_anything:
            sampler = Sampler(policy, client, metrics.quality, settings.quality_budget)
            await stack.enter_async_context(sampler.running())
            checks = SanityChecks(catalog, client, metrics.quality)
            await stack.enter_async_context(repeated(checks.look, CHECK_INTERVAL))
        patience = Patience(Hub(), metrics)
        await stack.enter_async_context(patience.running())
        workers = Workers(catalog, admission, client, costs, patience, settings.longest_timeout)
        work = await stack.enter_async_context(kept(settings, workers, catalog, metrics))
        explaining = Explaining(work, metrics, sampler)
        gate = await stack.enter_async_context(identity(settings))
        jobs = await stack.enter_async_context(_jobs(settings, catalog, explaining, gate, metrics))
        streaming = Streaming(explaining, work)
        servicer = ExplanationServicer(settings, catalog, explaining, streaming, jobs, costs)
        operations = OperationsServicer(jobs, settings.default_timeout)
        traces = await stack.enter_async_context(_tracing(settings))
        drain = Drain()
        server, address = grpc_server(settings, servicer, operations, health_servicer, metrics, gate, drain, traces)
        monitor = _monitor(settings, worker, client, catalog, health_servicer, metrics)
        await stack.enter_async_context(monitor.running())
        await server.start()
        try:
            yield Running(address, metrics_url, monitor)
        finally:
            logger.info("draining: answering what was accepted")
            await health_servicer.enter_graceful_shutdown()
            await jobs.drain()
            late = await drain.finish(settings.drain_timeout)
            if late:
                logger.warning("%d requests were not answered in time", late)
            await server.stop(STOP_GRACE)


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
async def _jobs(
    settings: Settings, catalog: Catalog, explaining: Explaining, gate: Gate, metrics: Metrics
) -> AsyncIterator[Jobs]:
    """Jobs, for the length of a block.

    Raises:
        StartError: their database cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            jobs = await stack.enter_async_context(running_jobs(settings, catalog, explaining, gate, metrics))
        except UnusableDatabaseError as error:
            raise StartError(str(error)) from None
        yield jobs


def _policy(settings: Settings) -> Policy:
    """Which explanations are measured in the background."""
    if settings.quality_policy is not None:
        try:
            return load_policy(settings.quality_policy)
        except PolicyError as error:
            raise StartError(str(error)) from None
    return Policy(rules=(Rule(share=settings.quality_share, below_confidence=settings.quality_below_confidence),))


@contextlib.asynccontextmanager
async def _tracing(settings: Settings) -> AsyncIterator[Tracing]:
    """What traces the calls.

    Raises:
        StartError: traces cannot be sent.
    """
    try:
        async with tracing(settings) as traces:
            yield traces
    except TracingError as error:
        raise StartError(str(error)) from None


def _monitor(
    settings: Settings,
    worker: Worker,
    client: WorkerClient,
    catalog: Catalog,
    health_servicer: health.aio.HealthServicer,
    metrics: Metrics,
) -> Monitor:
    return Monitor(
        client,
        catalog,
        health_servicer,
        metrics,
        interval=settings.health_interval,
        discover=settings.external_worker,
        restarts=worker.restarts,
    )


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


def grpc_server(
    settings: Settings,
    servicer: ExplanationServicer,
    operations: OperationsServicer,
    health_servicer: health.aio.HealthServicer,
    metrics: Metrics,
    gate: Gate,
    drain: Drain,
    traces: Tracing | None = None,
) -> tuple[grpc.aio.Server, str]:
    """The server, bound but not started, and its address.

    Raises:
        StartError: the port is taken, or a certificate cannot be used.
    """
    # Twice the image limit: what is somewhat too large gets a typed answer, what is absurd is cut off by gRPC.
    options = [
        ("grpc.max_receive_message_length", 2 * settings.max_image_bytes + ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    interceptors = [CallInterceptor(metrics, traces), IdentityInterceptor(gate), DrainInterceptor(drain)]
    server = grpc.aio.server(interceptors=interceptors, options=options)
    api_grpc.add_ExplanationServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    operations_pb2_grpc.add_OperationsServicer_to_server(operations, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((SERVICE, OPERATIONS, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = _listen(server, settings)
    except UnusableFileError as error:
        raise StartError(str(error)) from None
    except RuntimeError as error:
        raise StartError(f"cannot listen on port {settings.port}: is it taken?") from error
    return server, _authority(settings.host, port)


def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    address = _authority(settings.host, settings.port)
    if settings.tls_certificate is None or settings.tls_key is None:
        return server.add_insecure_port(address)
    credentials = server_credentials(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    return server.add_secure_port(address, credentials)


def _authority(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def _metrics_endpoint(settings: Settings, metrics: Metrics) -> Iterator[str]:
    """Serve the metrics for the length of a block; gives the URL."""
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
    except OSError as error:
        raise StartError(f"cannot serve metrics on port {settings.metrics_port}: is it taken?") from error
    try:
        yield f"http://{_authority(settings.metrics_host, server.server_port)}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_ready_file(path: Path, service: Running) -> None:
    """Tell whoever waits for the file where the service listens; the file appears whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"address": service.address, "metrics": service.metrics}))
    draft.replace(path)


async def wait_until_ready(service: Running, timeout: float) -> None:
    """Wait until every model is ready.

    Raises:
        StartError: not within `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            await service.monitor.all_ready.wait()
    except TimeoutError:
        raise StartError(f"not every model became ready within {timeout:g} seconds") from None
