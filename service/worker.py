"""The TorchServe that the service works with: its own, or one that runs elsewhere."""

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_store.archive import build_archive
from model_store.lanes import Lane, quality_lane, registration
from model_store.manifest import Manifest, load_manifest
from model_store.schema import Serving
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
# The same for slow maps: a worker sees at each step that its deadline has passed, and a step may take a while.
STEP_SECONDS = 60


@dataclass(frozen=True)
class Worker:
    """Where the models run.

    Attributes:
        endpoint: gives the addresses to talk to now.
        models: names of the models that must be there, each with the lanes that have workers of their own; empty when
            TorchServe decides.
        restarts: how often TorchServe died and was started again.
    """

    endpoint: Callable[[], Endpoint]
    models: Mapping[str, tuple[Lane, ...]]
    restarts: Callable[[], int]


@contextlib.asynccontextmanager
async def start_worker(settings: Settings, *, quality: bool) -> AsyncIterator[Worker]:
    """Have TorchServe for the length of a block; with `quality` each model has one more worker, which measures.

    Raises:
        ManifestError, ArchiveError: the models cannot be packed.
        JavaNotFoundError: there is no Java to run TorchServe with.
    """
    if settings.external_worker:
        yield Worker(lambda: _external(settings), {}, lambda: 0)
        return
    supervisor, models = await prepare(settings, quality=quality)
    await supervisor.start()
    try:
        yield Worker(lambda: supervisor.endpoint, models, lambda: supervisor.restarts)
    finally:
        await supervisor.stop()


async def prepare(
    settings: Settings, *, quality: bool, folder: Path | None = None, on_change: Callable[[], None] | None = None
) -> tuple[Supervisor, Mapping[str, tuple[Lane, ...]]]:
    """A TorchServe for the models of the manifest that is not started yet, and the lanes of each model.

    Args:
        settings: of the service.
        quality: whether each model has one more worker, which measures.
        folder: where it makes its run directories; None for the temporary directory.
        on_change: called after each change of its `running`.

    Raises:
        ManifestError, ArchiveError: the models cannot be packed.
        JavaNotFoundError: there is no Java to run TorchServe with.
    """
    manifest = load_manifest(settings.manifest)
    models = await asyncio.to_thread(_served_models, manifest, settings)
    served = [lane for lanes in models.values() for lane in lanes.values()]
    if quality:
        served += [_quality_lane(lanes[Lane.PREDICT]) for lanes in models.values()]
    options = _options(settings, await asyncio.to_thread(find_java, settings.java), folder)
    return Supervisor(served, options, on_change), {name: tuple(lanes) for name, lanes in models.items()}


def _lanes(model: ServedModel, serving: Serving, longest_timeout: float) -> dict[Lane, ServedModel]:
    """The model under its own name, and once more for each lane of its maps that has workers."""
    lanes = {Lane.PREDICT: model}
    if serving.fast_workers:
        name = registration(model.name, Lane.FAST)
        lanes[Lane.FAST] = dataclasses.replace(model, name=name, workers=serving.fast_workers)
    if serving.slow_workers:
        lanes[Lane.SLOW] = dataclasses.replace(
            model,
            name=registration(model.name, Lane.SLOW),
            workers=serving.slow_workers,
            batch_size=serving.slow_batch_size,
            response_timeout_s=max(model.response_timeout_s, math.ceil(longest_timeout) + STEP_SECONDS),
        )
    return lanes


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


def _options(settings: Settings, java: Path, folder: Path | None) -> SupervisorOptions:
    """TorchServe's limits above the service's own, so that the service is the one that refuses."""
    limits = Limits(max_request_bytes=settings.max_image_bytes + SLACK_BYTES)
    return SupervisorOptions(
        java=java,
        limits=limits,
        run_parent=folder,
        # The handler refuses an answer that TorchServe would kill its worker for.
        environment={"WHYLIGHT_MAX_RESPONSE_BYTES": str(limits.max_response_bytes - SLACK_BYTES)},
    )


def _external(settings: Settings) -> Endpoint:
    return Endpoint(
        inference=str(settings.worker_inference_address),
        management=str(settings.worker_management_address),
        key_file=settings.worker_key_file,
    )


def _served_models(manifest: Manifest, settings: Settings) -> dict[str, dict[Lane, ServedModel]]:
    """Build the archives and say how each lane of each model is to be served."""
    served = {}
    for entry in manifest.models:
        model = ServedModel(
            name=entry.name,
            version=entry.version,
            archive=build_archive(entry, settings.manifest.parent, settings.store),
            workers=entry.serving.workers,
            batch_size=entry.serving.batch_size,
            max_batch_delay_ms=entry.serving.max_batch_delay_ms,
            response_timeout_s=entry.serving.response_timeout_s,
        )
        served[entry.name] = _lanes(model, entry.serving, settings.longest_timeout)
    return served
