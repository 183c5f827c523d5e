"""Runs inside TorchServe: answers with what it gets, or does what the body says."""

import os
import time


class EchoHandler:
    """Commands: `sleep SECONDS`, `size BYTES`, `raise`, `die`, `pid`. Anything else comes back as it is."""

    def initialize(self, context):
        """Under the name `fragile`, fail to load while the file that WHYLIGHT_TEST_BROKEN names is there."""
        broken = os.environ.get("WHYLIGHT_TEST_BROKEN", "")
        if context.model_name == "fragile" and os.path.exists(broken):
            raise RuntimeError("this model is broken on purpose")

    def handle(self, data, context):
        """Answer every item of a batch."""
        return [self._answer(bytes(item["body"])) for item in data]

    def _answer(self, body):
        command, _, argument = body[:32].partition(b" ")
        if command == b"sleep":
            time.sleep(float(argument))
        elif command == b"size":
            return b"x" * int(argument.split()[0])
        elif command == b"raise":
            raise ValueError("on purpose")
        elif command == b"die":
            os._exit(3)
        elif command == b"pid":
            return str(os.getpid()).encode()
        return body
