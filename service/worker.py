"""The TorchServe that the service works with: its own, or one that runs elsewhere."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from model_store.archive import build_archive
from model_store.lanes import quality_lane
from model_store.manifest import Manifest, load_manifest
from service import sanity
from service.sampling import sampler
from service.settings import Settings
from service.torchserve.config import Limits
from service.torchserve.endpoint import Endpoint
from service.torchserve.java import find_java
from service.torchserve.supervisor import ServedModel, Supervisor, SupervisorOptions

SLACK_BYTES = 1024 * 1024
# Longer than the service waits for a sample or a sanity check: else TorchServe would kill the worker over it.
QUALITY_TIMEOUT = int(max(sampler.TIMEOUT, sanity.TIMEOUT)) + 60


@dataclass(frozen=True)
class Worker:
    """Where the models run.

    Attributes:
        endpoint: gives the addresses to talk to now.
        models: names of the models that must be there; empty when TorchServe decides.
        restarts: how often TorchServe died and was started again.
    """

    endpoint: Callable[[], Endpoint]
    models: tuple[str, ...]
    restarts: Callable[[], int]


@contextlib.asynccontextmanager
async def start_worker(settings: Settings, *, quality: bool) -> AsyncIterator[Worker]:
    """Have TorchServe for the length of a block; with `quality` each model has a worker that measures explanations.

    Raises:
        ManifestError, ArchiveError: the models cannot be packed.
        JavaNotFoundError: there is no Java to run TorchServe with.
    """
    if settings.external_worker:
        yield Worker(lambda: _external(settings), (), lambda: 0)
        return
    manifest = load_manifest(settings.manifest)
    models = await asyncio.to_thread(_served_models, manifest, settings)
    lanes = [_quality_lane(model) for model in models] if quality else []
    supervisor = Supervisor([*models, *lanes], _options(settings, await asyncio.to_thread(find_java, settings.java)))
    await supervisor.start()
    try:
        yield Worker(lambda: supervisor.endpoint, tuple(model.name for model in models), lambda: supervisor.restarts)
    finally:
        await supervisor.stop()


def _quality_lane(model: ServedModel) -> ServedModel:
    """The same model once more, with a queue and a worker of its own, which TorchServe leaves time."""
    return dataclasses.replace(
        model,
        name=quality_lane(model.name),
        workers=1,
        batch_size=1,
        max_batch_delay_ms=0,
        response_timeout_s=max(model.response_timeout_s, QUALITY_TIMEOUT),
    )


def _options(settings: Settings, java: Path) -> SupervisorOptions:
    """TorchServe's limits above the service's own, so that the service is the one that refuses."""
    limits = Limits(max_request_bytes=settings.max_image_bytes + SLACK_BYTES)
    return SupervisorOptions(
        java=java,
        limits=limits,
        # The handler refuses an answer that TorchServe would kill its worker for.
        environment={"WHYLIGHT_MAX_RESPONSE_BYTES": str(limits.max_response_bytes - SLACK_BYTES)},
    )


def _external(settings: Settings) -> Endpoint:
    return Endpoint(
        inference=str(settings.worker_inference_address),
        management=str(settings.worker_management_address),
        key_file=settings.worker_key_file,
    )


def _served_models(manifest: Manifest, settings: Settings) -> list[ServedModel]:
    """Build the archives and say how each is to be served."""
    return [
        ServedModel(
            name=entry.name,
            version=entry.version,
            archive=build_archive(entry, settings.manifest.parent, settings.store),
            workers=entry.serving.workers,
            batch_size=entry.serving.batch_size,
            max_batch_delay_ms=entry.serving.max_batch_delay_ms,
            response_timeout_s=entry.serving.response_timeout_s,
        )
        for entry in manifest.models
    ]
