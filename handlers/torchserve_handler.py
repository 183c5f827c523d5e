"""The one place that knows TorchServe's handler interface."""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from explainers.arithmetic import exact_float32
from handlers.arithmetic import with_arithmetic
from handlers.describe import device_text
from handlers.fast_path import with_fast_path
from handlers.faults import DeviceLostError, place
from handlers.loading import LoadError, choose_device, load_model, read_document
from handlers.memory import keep_for_reuse, keep_giving_back
from handlers.settings import Limits, Numbers
from handlers.worker import Worker
from model_store.lanes import is_background, is_slow

logger = logging.getLogger(__name__)

EXIT_DEVICE_LOST = 4
# Whoever waits for a prediction or a fast map goes first, whoever waits for a slow map comes second, and measuring
# quality, for which nobody waits, last.
SECOND, LAST = 10, 19
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class TorchServeHandler:
    """Loads one model and answers batches. Each item's own status is in its answer: a batch never fails as a whole."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def initialize(self, context: Any) -> None:
        """Load the model of the unpacked archive.

        Args:
            context: TorchServe's; its `system_properties` name the folder and, where there is one, the GPU.

        Raises:
            LoadError: the archive is refused. TorchServe logs it and tries again later.
        """
        properties = context.system_properties
        # A processor takes up to a hundred times as long for numbers this small, and a mask that fades out makes many.
        # Set before torch starts its threads: they inherit it.
        torch.set_flush_denormal(True)
        keep_for_reuse()
        limits, wish = Limits.from_environment(), Numbers.from_environment()
        device = choose_device(properties.get("gpu_id"))
        if device.type == "cuda":
            exact_float32()
        folder, registration = Path(properties["model_dir"]), str(getattr(context, "model_name", ""))
        try:
            threads = _threads(registration, limits.threads_for(read_document(folder).threads))
            _give_way(registration)  # before there are other threads: they inherit it
            if threads is not None:
                torch.set_num_threads(threads)  # sessions of ONNX Runtime take as many when they are made
            model = load_model(folder, device)
            if not (is_slow(registration) or is_background(registration)):  # what these do the graph does not know
                model = with_fast_path(model, folder)
        except LoadError as error:
            logger.error("model refused: %s", error)
            raise
        self._worker = Worker(with_arithmetic(model, wish), limits)
        keep_giving_back()
        logger.info("model %s %s loaded on %s", model.document.name, model.document.version, device_text(device))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch.

        Args:
            data: one dictionary for each request, with a serialised WorkRequest under "body" or "data".
            context: not used.

        Returns:
            One serialised WorkResponse for each request.
        """
        if self._worker is None:
            raise RuntimeError("handle was called before initialize")
        try:
            return self._worker.answer([item.get("body", item.get("data")) for item in data])
        except DeviceLostError as error:
            # Nothing in this process can use the GPU again. TorchServe starts a new worker.
            logger.critical("the GPU does not answer, the worker ends: %s", place(error))
            os._exit(EXIT_DEVICE_LOST)


def _give_way(registration: str) -> None:
    """Step back behind whoever goes first."""
    if is_background(registration):
        os.nice(LAST)
    elif is_slow(registration):
        os.nice(SECOND)


def _threads(registration: str, threads: int | None) -> int | None:
    """With how many threads of torch to work; None: torch decides.

    Threads that wait for each other while one of them gets no processor only burn what the others get. So a worker that
    gives way to others must do with fewer of them than there are processors.
    """
    if is_background(registration):
        return 1
    if is_slow(registration):
        return min(threads or PROCESSORS, max(1, PROCESSORS - 1))
    return threads
