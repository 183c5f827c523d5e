"""What a slow lane that is full costs those who want a prediction.

`python -m benchmarks.lanes --output docs/benchmarks/lanes.md`

One service runs, and one client asks it for predictions, one after the other, in blocks: while nothing else happens,
while clients ask for slow maps without a pause, and while nothing else happens once more, so that the ratio of these
two shows what chance does. The order changes from round to round. Then slow maps are asked for ten times as often as
the slow lane computes them, and predictions go on.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

from benchmarks.timing import machine
from model_store.digits.samples import SAMPLES_FOLDER
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.client import build_method
from service.launch import Launched, launched
from tests.e2e.conftest import one_model

MODEL = "digits-cnn"
IMAGE = SAMPLES_FOLDER / "cat.jpg"
IDLE, SATURATED, AGAIN = "idle", "slow lane saturated", "idle, again"
KINDS = (IDLE, SATURATED, AGAIN)
CLIENTS = 4  # that ask for slow maps without a pause: one is with the worker, the others wait
OVERLOAD = 10
Blocks = Mapping[str, Sequence[float]]

REPORT = """# What slow maps cost those who want a prediction

`{command}`

{machine}, {processors} processors, which the service, its workers and the clients share. {model}; slow maps by
{method}, {slow_seconds:.2f} s each in the worker while predictions are asked for besides.

## Predictions while the slow lane is saturated

{requests} predictions of each kind in {rounds} rounds, one client that asks again as soon as it has its answer;
{clients} more clients that ask for slow maps.

| milliseconds of Predict | median | 99th percentile |
|---|---|---|
{rows}

| ratio | median | 99th percentile |
|---|---|---|
{ratios}

The last row compares idle with idle: what chance does.

## {overload} times as many slow maps as are computed

For {seconds:g} s, {offered} slow maps were asked for, evenly spaced.

| | number | median, ms | 99th percentile, ms |
|---|---|---|---|
{overload_rows}

Other answers: {others}.
"""


@dataclass
class Overload:
    """What came of it. Milliseconds of each call by what became of it."""

    predictions: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def requests(method: str, parameters: Sequence[str]) -> tuple[api.PredictRequest, api.ExplainRequest]:
    """The prediction and the slow map to ask for."""
    image = IMAGE.read_bytes()
    slow = api.ExplainRequest(model=MODEL, image=image, method=build_method(method, parameters))
    return api.PredictRequest(model=MODEL, image=image), slow


def block(stub: api_grpc.ExplanationServiceStub, predict: api.PredictRequest, count: int) -> list[float]:
    """Milliseconds of so many predictions, one after the other."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        stub.Predict(predict, timeout=60)
        found.append(1000 * (time.perf_counter() - began))
    return found


def figure(service: Launched, name: str, **labels: str) -> float:
    """A figure of the service, summed over all other labels."""
    text = urllib.request.urlopen(service.metrics, timeout=10).read().decode()  # noqa: S310 - our own address
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


@contextmanager
def saturated(service: Launched, slow: api.ExplainRequest) -> Iterator[None]:
    """Clients that ask for slow maps without a pause, for the length of a block; at its end none is under way."""
    stop = threading.Event()

    def ask() -> None:
        with grpc.insecure_channel(service.address) as channel:
            stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]
            while not stop.is_set():
                stub.Explain(slow, timeout=600)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        while figure(service, "whylight_queue_length") < CLIENTS - 1:
            time.sleep(0.02)
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def measure(service: Launched, predict: api.PredictRequest, slow: api.ExplainRequest, rounds: int, size: int) -> Blocks:
    """Milliseconds of each prediction by kind."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with grpc.insecure_channel(service.address) as channel:
        stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]
        stub.Explain(slow, timeout=600)
        block(stub, predict, 50)
        for number in tqdm(range(rounds), unit="round"):
            for place in range(len(KINDS)):
                kind = KINDS[(number + place) % len(KINDS)]
                if kind == SATURATED:
                    with saturated(service, slow):
                        found[kind] += block(stub, predict, size)
                else:
                    found[kind] += block(stub, predict, size)
    return found


async def overload(
    address: str, predict: api.PredictRequest, slow: api.ExplainRequest, each: float, seconds: float
) -> Overload:
    """Ask for slow maps ten times as often as one in `each` seconds, and for predictions one after the other."""
    found = Overload()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]

        async def ask() -> None:
            began = time.perf_counter()
            try:
                await stub.Explain(slow, timeout=600)
                found.answered.append(1000 * (time.perf_counter() - began))
            except grpc.aio.AioRpcError as error:
                took = 1000 * (time.perf_counter() - began)
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    found.refused.append(took)
                else:
                    found.others.append(error.code().name)

        async def predictions() -> None:
            while True:
                began = time.perf_counter()
                await stub.Predict(predict, timeout=60)
                found.predictions.append(1000 * (time.perf_counter() - began))

        beside = asyncio.create_task(predictions())
        asked, started = [], time.perf_counter()
        for number in range(int(OVERLOAD * seconds / each)):
            await asyncio.sleep(max(0.0, started + number * each / OVERLOAD - time.perf_counter()))
            asked.append(asyncio.create_task(ask()))
        beside.cancel()
        await asyncio.gather(*asked)
    return found


def median_and_p99(values: Sequence[float]) -> tuple[float, float]:
    """Of so many values, or not-a-number where there are too few."""
    if len(values) < 2:
        return float("nan"), float("nan")
    return statistics.median(values), statistics.quantiles(values, n=100)[98]


def ratio(blocks: Blocks, kind: str) -> str:
    """Median and 99th percentile of a kind, in those of the first one."""
    pairs = zip(median_and_p99(blocks[kind]), median_and_p99(blocks[IDLE]), strict=True)
    return " | ".join(f"{ours / theirs:.2f}" for ours, theirs in pairs)


def cells(values: Sequence[float]) -> str:
    """Median and 99th percentile as cells of a table."""
    return " | ".join(f"{value:.1f}" for value in median_and_p99(values))


def report(arguments: argparse.Namespace, command: str) -> str:
    """Everything as Markdown."""
    predict, slow = requests(arguments.method, arguments.parameter)
    rounds = max(1, -(-arguments.requests // arguments.block))
    with tempfile.TemporaryDirectory() as folder, _service(Path(folder), arguments) as service:
        blocks = measure(service, predict, slow, rounds, arguments.block)
        name = {"method": arguments.method, "stage": "compute"}
        spent = figure(service, "whylight_stage_duration_seconds_sum", **name)
        each = spent / figure(service, "whylight_stage_duration_seconds_count", **name)
        came = asyncio.run(overload(service.address, predict, slow, each, arguments.seconds))
    return REPORT.format(
        command=command,
        machine=machine(),
        processors=os.cpu_count(),
        model=MODEL,
        method=" ".join((arguments.method, *arguments.parameter)),
        slow_seconds=each,
        requests=rounds * arguments.block,
        rounds=rounds,
        clients=CLIENTS,
        rows="\n".join(f"| {kind} | {cells(blocks[kind])} |" for kind in KINDS),
        ratios="\n".join(f"| {kind} / {IDLE} | {ratio(blocks, kind)} |" for kind in KINDS[1:]),
        overload=OVERLOAD,
        seconds=arguments.seconds,
        offered=len(came.refused) + len(came.answered) + len(came.others),
        overload_rows="\n".join(
            f"| {name} | {len(values)} | {cells(values)} |"
            for name, values in (
                ("predictions", came.predictions),
                ("slow maps refused (RESOURCE_EXHAUSTED)", came.refused),
                ("slow maps answered", came.answered),
            )
        ),
        others=", ".join(f"{came.others.count(each)} {each}" for each in sorted(set(came.others))) or "none",
    )


def _service(folder: Path, arguments: argparse.Namespace) -> AbstractContextManager[Launched]:
    """The service to measure, in whose lane of slow maps there is room for those clients and no more."""
    settings: dict[str, object] = {"manifest": one_model(folder, lanes=0 if arguments.shared else 1), "cache_bytes": 0}
    settings["queue_size" if arguments.shared else "slow_queue_size"] = CLIENTS
    return launched(settings)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 predictions of each kind: does it run?")
    parser.add_argument("--requests", type=int, default=6000, help="at least so many predictions of each kind")
    parser.add_argument("--block", type=int, default=300, help="predictions in a block")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to ask for too much")
    parser.add_argument("--method", default="opti_cam", help="slow method")
    parser.add_argument("--parameter", "-p", action="append", default=[], help="name=value of the method")
    parser.add_argument("--shared", action="store_true", help="one worker for everything, to see what lanes are for")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.requests, arguments.block, arguments.seconds = 100, 50, 10.0
    given = [name for name in ("quick", "shared", "parameter") if getattr(arguments, name)]
    given += [name for name in ("requests", "block", "seconds") if not arguments.quick]
    given = [name for name in given if getattr(arguments, name) != parser.get_default(name)]
    text = report(arguments, _command(arguments, given))
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text)


def _command(arguments: argparse.Namespace, given: Sequence[str]) -> str:
    """The command line that gives the same."""
    words = ["python -m benchmarks.lanes"]
    if arguments.method != "opti_cam":
        words.append(f"--method {arguments.method}")
    for name in given:
        value = getattr(arguments, name)
        if name == "parameter":
            words += [f"-p {each}" for each in value]
        else:
            words.append(f"--{name}" if value is True else f"--{name} {value:g}")
    return " ".join(words)


if __name__ == "__main__":
    main()
