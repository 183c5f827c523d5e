"""Measures two ways for the service to talk to TorchServe: REST over a unix socket, and gRPC.

`python -m benchmarks.inner_hop [--rounds 6] [--requests 400]`

Both go to one TorchServe with one worker whose handler does nothing, in turns, so that whatever else the machine does
hits both alike. REST goes through the service's own WorkerClient; the gRPC call lives here only, with its two messages
encoded by hand, because a generated `inference` package would clash with others of that name.
"""

import argparse
import asyncio
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

import grpc
import psutil

from service.torchserve.client import WorkerClient
from service.torchserve.config import Layout
from service.torchserve.java import find_java
from service.torchserve.supervisor import ServedModel, Supervisor, SupervisorOptions
from tests.service.torchserve.echo import VERSION, build_archive, wait_for_workers

MODEL = "echo"
REQUEST_BYTES = 58_000
RESPONSE_BYTES = (150_000, 2_000)
CONCURRENCIES = (1, 8, 32)
PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
Send = Callable[[bytes], Awaitable[bytes]]


@dataclass
class Figures:
    """What one way cost in one case, over all rounds.

    Attributes:
        latencies: milliseconds of each request.
        rates: requests a second in each round.
        java: milliseconds of Java's processor time per request in each round.
        client: the same of this process.
    """

    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    java: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)

    def row(self) -> str:
        """Medians over the rounds, and the median and 95th percentile over the requests."""
        percentiles = statistics.quantiles(self.latencies, n=20)
        rate, java, client = (statistics.median(values) for values in (self.rates, self.java, self.client))
        return f"{percentiles[9]:.2f} | {percentiles[18]:.2f} | {rate:.0f} | {java:.2f} | {client:.2f}"


def varint(number: int) -> bytes:
    """A protobuf number."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def field_bytes(number: int, value: bytes) -> bytes:
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def to_predictions_request(body: bytes) -> bytes:
    """PredictionsRequest: model_name = 1, and one entry of the map input = 3."""
    entry = field_bytes(1, b"body") + field_bytes(2, body)
    return field_bytes(1, MODEL.encode()) + field_bytes(3, entry)


def from_prediction_response(message: bytes) -> bytes:
    """PredictionResponse: prediction = 1, its only field."""
    length, shift, position = 0, 0, 1
    while True:
        byte = message[position]
        length |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return message[position : position + length]


@asynccontextmanager
async def grpc_sender(supervisor: Supervisor) -> AsyncIterator[Send]:
    """Sends over TorchServe's gRPC interface."""
    key_file = supervisor.endpoint.key_file
    assert key_file  # noqa: S101 - for the type checker
    lines = Layout(key_file.parent).properties.read_text().splitlines()
    port = dict(line.split("=", 1) for line in lines)["grpc_inference_port"]
    token = (("authorization", f"Bearer {supervisor.endpoint.read_keys().inference}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(PREDICTIONS, to_predictions_request, from_prediction_response)

        async def send(body: bytes) -> bytes:
            reply: bytes = await call(body, metadata=token)
            return reply

        yield send


async def measure(send: Send, answer: int, concurrency: int, requests: int, java: psutil.Process) -> Figures:
    """Send `requests` requests, `concurrency` at a time, each for `answer` bytes."""
    body = f"size {answer} ".encode().ljust(REQUEST_BYTES, b".")
    figures = Figures()

    async def caller(share: Iterator[int]) -> None:
        for _ in share:
            began = time.perf_counter()
            reply = await send(body)
            figures.latencies.append(1000 * (time.perf_counter() - began))
            assert len(reply) == answer  # noqa: S101 - a benchmark of wrong answers is worth nothing

    todo = iter(range(requests))  # shared: whoever is free takes the next
    java_before, client_before, began = cpu_seconds(java), time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller(todo) for _ in range(concurrency)))
    figures.rates.append(requests / (time.perf_counter() - began))
    figures.java.append(1000 * (cpu_seconds(java) - java_before) / requests)
    figures.client.append(1000 * (time.process_time() - client_before) / requests)
    return figures


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time of a process, user and system."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def compare(supervisor: Supervisor, client: WorkerClient, rounds: int, requests: int) -> dict[str, Figures]:
    """Measure both ways in turns and return the figures by the head of their table row."""
    java = next(process for process in psutil.Process().children(recursive=True) if process.name() == "java")
    collected: dict[str, Figures] = {}
    async with grpc_sender(supervisor) as over_grpc:
        senders = {"REST, unix socket": lambda body: client.send(MODEL, body, 60), "gRPC, loopback": over_grpc}
        for number in range(-1, rounds):  # the first round warms Java up
            cases = [(answer, concurrency) for answer in RESPONSE_BYTES for concurrency in CONCURRENCIES]
            for answer, concurrency in cases:
                for name in sorted(senders, reverse=bool(number % 2)):
                    figures = await measure(senders[name], answer, concurrency, requests, java)
                    if number >= 0:
                        row = f"| {answer // 1000} KB | {concurrency} | {name}"
                        add(collected.setdefault(row, Figures()), figures)
    return collected


def add(total: Figures, part: Figures) -> None:
    """Collect the figures of one round."""
    total.latencies += part.latencies
    total.rates += part.rates
    total.java += part.java
    total.client += part.client


async def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=6, help="rounds that count; one more comes first")
    parser.add_argument("--requests", type=int, default=400, help="requests of each case in each round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = ServedModel(MODEL, VERSION, build_archive(Path(folder)), batch_size=8)
        supervisor = Supervisor([model], SupervisorOptions(java=find_java(None)))
        await supervisor.start()
        client = WorkerClient(lambda: supervisor.endpoint)
        try:
            await wait_for_workers(client, MODEL)
            table = await compare(supervisor, client, arguments.rounds, arguments.requests)
        finally:
            await client.close()
            await supervisor.stop()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torchserve", "aiohttp", "grpcio"))
    print(f"{date.today()}, Python {platform.python_version()}, {packages}, {psutil.cpu_count()} processors,")
    print(f"{arguments.rounds} rounds of {arguments.requests} requests of {REQUEST_BYTES // 1000} KB per case\n")
    print("| answer | concurrent | way | p50 ms | p95 ms | requests/s | Java CPU ms/request | service CPU ms/request |")
    print("|---|---|---|---|---|---|---|---|")
    for head, figures in table.items():
        print(f"{head} | {figures.row()} |")


if __name__ == "__main__":
    asyncio.run(main())
