"""The one place that knows TorchServe's handler interface."""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from handlers.describe import device_text
from handlers.faults import DeviceLostError, place
from handlers.loading import LoadError, choose_device, load_model
from handlers.settings import Limits
from handlers.worker import Worker
from model_store.lanes import is_background

logger = logging.getLogger(__name__)

EXIT_DEVICE_LOST = 4
# Whoever waits for an answer goes first: the kindest niceness there is, and one thread, because threads that wait for
# each other while neither gets a processor only burn what they get.
LAST = 19


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
        limits = Limits.from_environment()
        device = choose_device(properties.get("gpu_id"))
        try:
            model = load_model(Path(properties["model_dir"]), device)
        except LoadError as error:
            logger.error("model refused: %s", error)
            raise
        threads = limits.threads or model.document.threads
        if is_background(str(getattr(context, "model_name", ""))):
            os.nice(LAST)
            threads = 1
        if threads is not None:
            torch.set_num_threads(threads)
        self._worker = Worker(model, limits)
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
