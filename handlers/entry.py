"""The handler file of every archive: TorchServe wants one class that is defined here; the work is in `handlers`."""

import logging
import os
from typing import Any

try:
    from handlers.torchserve_handler import TorchServeHandler
    from handlers.watchdog import exit_with_parent
except ImportError as error:
    # TorchServe would take an ImportError for a missing handler file, and report that instead.
    raise RuntimeError("the worker's Python cannot import whylight") from error


class Entry(TorchServeHandler):
    """The handler in a process of its own, which must not outlive TorchServe."""

    def initialize(self, context: Any) -> None:
        """Load the model of the unpacked archive."""
        exit_with_parent()
        super().initialize(context)
        # TorchServe's worker logs two lines for each request, and Java parses each: a fifth of the throughput.
        logging.getLogger().setLevel(os.environ.get("WHYLIGHT_WORKER_LOG_LEVEL", "WARNING"))
