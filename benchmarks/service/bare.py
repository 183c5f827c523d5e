"""A bare asyncio gRPC server with the handler in its own process: nothing but what every such server needs.

`python -m benchmarks.service.bare --archives FOLDER --ready FILE`

`/handler/MODEL` takes a WorkRequest and gives a WorkResponse, as the handler does, one at a time: the handler works in
one thread, in which the models are loaded, too. (Each thread that computes gets helpers of its own from OpenMP; where
they are more than the processors, they sleep between any two layers.) `/limit/MODEL` takes a stream of WorkRequests,
and has the handler answer them over and over with nothing around it.
"""

import argparse
import asyncio
import itertools
import json
import signal
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import torch

from handlers.loading import load_model, read_document
from handlers.memory import keep_for_reuse
from handlers.settings import Limits
from handlers.worker import Worker

HANDLER, LIMIT = "/handler/", "/limit/"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
BATCH_KEY, SECONDS_KEY = "batch", "seconds"  # metadata of /limit
# Quoted: only the type stubs know it as generic.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Handlers(grpc.GenericRpcHandler):
    """The procedures of every model."""

    def __init__(self, workers: dict[str, Worker], thread: ThreadPoolExecutor) -> None:
        self._workers = workers
        self._thread = thread

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """The procedure of a path."""
        path = str(handler_call_details.method)
        worker = self._workers.get(path.rpartition("/")[2])
        if worker is None:
            return None
        if path.startswith(LIMIT):
            return grpc.stream_unary_rpc_method_handler(self._limit(worker))
        return grpc.unary_unary_rpc_method_handler(self._answer(worker))

    def _answer(self, worker: Worker) -> Any:
        async def answer(body: bytes, context: Context) -> bytes:
            loop = asyncio.get_running_loop()
            return (await loop.run_in_executor(self._thread, worker.answer, [body]))[0]

        return answer

    def _limit(self, worker: Worker) -> Any:
        async def limit(bodies: AsyncIterator[bytes], context: Context) -> bytes:
            wanted = dict(context.invocation_metadata() or ())
            batch, seconds = int(wanted[BATCH_KEY]), float(wanted[SECONDS_KEY])
            asked = [body async for body in bodies]
            loop = asyncio.get_running_loop()
            rate = await loop.run_in_executor(self._thread, requests_a_second, worker, asked, batch, seconds)
            return json.dumps(rate).encode()

        return limit


def requests_a_second(worker: Worker, bodies: Sequence[bytes], batch: int, seconds: float) -> float:
    """How many requests the handler answers in a second when it has nothing else to do."""
    turns, answered = itertools.cycle(bodies), 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds or not answered:
        answered += len(worker.answer(list(itertools.islice(turns, batch))))
    return answered / elapsed


def load(archive: Path, folder: Path) -> Worker:
    """The handler of an archive, unpacked into a folder."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    limits = Limits.from_environment()
    threads = limits.threads_for(read_document(folder).threads)
    if threads is not None:
        torch.set_num_threads(threads)
    model = load_model(folder, torch.device("cpu"))
    return Worker(model, limits)


def load_all(archives: Path, folder: Path) -> dict[str, Worker]:
    """The handlers of all archives of a folder, unpacked into another one, by model."""
    torch.set_flush_denormal(True)  # both as the handler does
    keep_for_reuse()
    return {path.stem: load(path, folder / path.stem) for path in sorted(archives.glob("*.mar"))}


async def serve(archives: Path, folder: Path, ready: Path) -> None:
    """Answer until SIGTERM; the file `ready` gets the address."""
    thread = ThreadPoolExecutor(1)
    workers = await asyncio.get_running_loop().run_in_executor(thread, load_all, archives, folder)
    server = grpc.aio.server(handlers=[Handlers(workers, thread)], options=UNLIMITED)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    draft = ready.with_suffix(".draft")
    draft.write_text(f"127.0.0.1:{port}")
    draft.replace(ready)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    await server.stop(None)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--archives", type=Path, required=True, help="folder of the archives")
    parser.add_argument("--ready", type=Path, required=True, help="file to write the address into")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(serve(arguments.archives, Path(folder), arguments.ready))


if __name__ == "__main__":
    main()
