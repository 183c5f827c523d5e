"""A small service: runs the supervisor until SIGTERM or SIGINT, and tells each endpoint on standard output.

Arguments: the archive, a mark that every process below carries in its environment.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

from service.torchserve.java import find_java
from service.torchserve.supervisor import ServedModel, Supervisor, SupervisorOptions


async def main(archive: Path, mark: str) -> None:
    """Live until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def tell() -> None:
        if supervisor.running:
            endpoint = supervisor.endpoint
            print(json.dumps([endpoint.inference, endpoint.management, str(endpoint.key_file)]), flush=True)  # noqa: T201

    options = SupervisorOptions(java=find_java(None), environment={"WHYLIGHT_TEST_MARK": mark})
    supervisor = Supervisor([ServedModel("echo", "1.0", archive)], options, tell)
    starting = asyncio.create_task(supervisor.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not stop.is_set():
        await starting
        await stop.wait()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await supervisor.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
