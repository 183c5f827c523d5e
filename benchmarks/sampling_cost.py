"""What measuring a sample of the explanations costs those who wait for theirs.

`python -m benchmarks.sampling_cost --output docs/benchmarks/sampling_cost.md`

Two services run at once: one measures a share of its explanations in the background, the other one does not. One client
asks them for the same explanation, one request after the other, in blocks: one block for the service that samples, and
two for the other one, so that their ratio shows what chance does. Blocks rather than single requests in turn, because
measuring a sample takes longer than a request: it would slow the other service's next request as well. Before each
block the client waits until every sample has been measured.
"""

import argparse
import os
import random
import statistics
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

from benchmarks.timing import machine
from model_store.digits.samples import SAMPLES_FOLDER
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2
from service.launch import Launched, launched

MODEL = "digits-cnn"
IMAGE = SAMPLES_FOLDER / "cat.jpg"
BLOCK = 200
WITHOUT, WITH, AGAIN = "without", "with", "without, again"
KINDS = (WITHOUT, WITH, AGAIN)
RESAMPLED = 2000
Blocks = Mapping[str, Sequence[Sequence[float]]]

REPORT = """# What sampling costs those who wait

`{command}`

{machine}, {processors} processors. {requests} requests of each kind in blocks of {block}, Grad-CAM on {model},
one client that asks again as soon as it has its answer. One service measures {share:g} % of its explanations in the
background (with the default steps of insertion and deletion), in a worker with the lowest priority; the other one
measures none. {measured} samples were measured in that time, {seconds:.2f} s each; {skipped} were skipped and {failed}
failed.

| milliseconds of Explain | median | 99th percentile |
|---|---|---|
{rows}

| ratio | median | 99th percentile |
|---|---|---|
{ratios}

In brackets: the middle 95 % of the ratios when rounds of blocks are drawn again with replacement, {resampled} times.
The last row compares the same service with itself: what chance does.
"""


def stub(service: Launched) -> api_grpc.ExplanationServiceStub:
    """The API of a service; its channel lives as long as the program."""
    return api_grpc.ExplanationServiceStub(grpc.insecure_channel(service.address))  # type: ignore[no-untyped-call]


def block(service: api_grpc.ExplanationServiceStub, requests: int) -> list[float]:
    """Milliseconds of so many explanations, one after the other."""
    request = api.ExplainRequest(
        model=MODEL,
        image=IMAGE.read_bytes(),
        method=method_pb2.Method(grad_cam=method_pb2.GradCam()),
        no_cache=True,
    )
    found = []
    for _ in range(requests):
        began = time.perf_counter()
        service.Explain(request, timeout=60)
        found.append(1000 * (time.perf_counter() - began))
    return found


def wait_for_checks(sampled: Launched) -> None:
    """Wait until every model has had its sanity check, which comes once after the start."""
    service = stub(sampled)
    names = [model.name for model in service.ListModels(api.ListModelsRequest()).models]
    while not all(service.GetModel(api.GetModelRequest(model=name)).model.sanity_checks for name in names):
        time.sleep(0.5)


def rest(sampled: Launched) -> None:
    """Wait until every sample that was drawn has been measured."""
    while figure(sampled, "explain_quality_queue_length"):
        time.sleep(0.2)


def figure(service: Launched, name: str, **labels: str) -> float:
    """A figure of a service, summed over all other labels."""
    text = urllib.request.urlopen(service.metrics, timeout=10).read().decode()  # noqa: S310 - our own address
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return float(sum(sample.value for sample in samples if labels.items() <= sample.labels.items()))


def measure(sampled: Launched, plain: Launched, rounds: int, size: int) -> Blocks:
    """Milliseconds of each request, block by block. The order of the kinds changes from round to round."""
    stubs = {WITH: stub(sampled), WITHOUT: stub(plain)}
    stubs[AGAIN] = stubs[WITHOUT]
    wait_for_checks(sampled)
    for each in stubs.values():
        block(each, 20)
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for number in tqdm(range(rounds), unit="round"):
        for place in range(len(KINDS)):
            kind = KINDS[(number + place) % len(KINDS)]
            rest(sampled)
            found[kind].append(block(stubs[kind], size))
    rest(sampled)
    return found


def median_and_p99(blocks: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Over the requests of all blocks."""
    values = [value for each in blocks for value in each]
    return statistics.median(values), statistics.quantiles(values, n=100)[98]


def ratios(blocks: Blocks, kind: str) -> str:
    """Median and 99th percentile of a kind, in those of the first one, with their intervals."""
    chance, rounds = random.Random(0), len(blocks[kind])  # noqa: S311 - no secret
    drawn = [_ratios(blocks, kind, chance.choices(range(rounds), k=rounds)) for _ in range(RESAMPLED)]
    cells = []
    for place, value in enumerate(_ratios(blocks, kind, range(rounds))):
        percentiles = statistics.quantiles([each[place] for each in drawn], n=40)
        cells.append(f"{value:.3f} ({percentiles[0]:.3f}-{percentiles[-1]:.3f})")
    return " | ".join(cells)


def _ratios(blocks: Blocks, kind: str, rounds: Sequence[int]) -> tuple[float, float]:
    ours, theirs = (median_and_p99([blocks[each][number] for number in rounds]) for each in (kind, WITHOUT))
    return ours[0] / theirs[0], ours[1] / theirs[1]


def report(arguments: argparse.Namespace, command: str) -> str:
    """Everything as Markdown."""
    size = arguments.block
    rounds = max(2, -(-arguments.requests // size))
    with launched({"quality_share": arguments.share / 100}) as sampled, launched() as plain:
        blocks = measure(sampled, plain, rounds, size)
        counts = {
            outcome: int(figure(sampled, "explain_quality_samples_total", outcome=outcome))
            for outcome in ("measured", "skipped", "failed")
        }
        seconds = figure(sampled, "explain_quality_worker_seconds_total")
    rows = [f"| {kind} | " + " | ".join(f"{value:.1f}" for value in median_and_p99(blocks[kind])) for kind in KINDS]
    return REPORT.format(
        command=command,
        machine=machine(),
        processors=os.cpu_count(),
        requests=rounds * size,
        block=size,
        model=MODEL,
        share=arguments.share,
        seconds=seconds / max(1, counts["measured"] + counts["failed"]),
        rows="\n".join(f"{row} |" for row in rows),
        ratios="\n".join(f"| {kind} / {WITHOUT} | {ratios(blocks, kind)} |" for kind in KINDS[1:]),
        resampled=RESAMPLED,
        **counts,
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 requests of each kind: does it run?")
    parser.add_argument("--requests", type=int, default=4000, help="at least so many of each kind")
    parser.add_argument("--block", type=int, default=BLOCK, help="requests in a block")
    parser.add_argument("--share", type=float, default=1.0, help="percent of the explanations to measure")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    command = "python -m benchmarks.sampling_cost"
    if arguments.quick:
        arguments.requests, arguments.block = 100, 50
        command += " --quick"
    for name in ("share", "requests", "block"):
        if not (arguments.quick and name != "share") and getattr(arguments, name) != parser.get_default(name):
            command += f" --{name} {getattr(arguments, name):g}"
    text = report(arguments, command)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
