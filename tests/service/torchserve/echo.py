"""A TorchServe archive of its own for these tests, and a wait for workers."""

import asyncio
import json
import zipfile
from pathlib import Path

from service.errors import ServiceError
from service.torchserve.client import ModelWorkers, WorkerClient

HANDLER = Path(__file__).with_name("echo_handler.py")
VERSION = "1.0"


def build_archive(folder: Path, config: str = "") -> Path:
    """Pack the echo handler into `folder`/echo.mar, with TorchServe's per-model configuration where one is given."""
    model = {"modelName": "echo", "modelVersion": VERSION, "handler": HANDLER.name}
    manifest = {"createdOn": "01/01/2026", "archiverVersion": "0.12.0", "runtime": "python", "model": model}
    archive = folder / "echo.mar"
    with zipfile.ZipFile(archive, "w") as mar:
        mar.write(HANDLER, HANDLER.name)
        if config:
            model["configFile"] = "config.yaml"
            mar.writestr("config.yaml", config)
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return archive


async def wait_for_workers(client: WorkerClient, *names: str, timeout: float = 60.0) -> dict[str, ModelWorkers]:
    """Wait until every worker of the named models is ready."""
    async with asyncio.timeout(timeout):
        while True:
            try:
                states = await client.worker_states()
                if all(name in states and states[name].all_ready for name in names):
                    return states
            except ServiceError:
                pass
            await asyncio.sleep(0.05)
