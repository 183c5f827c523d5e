"""Sends mutated messages to the front and to a worker, and says what came back.

`python -m benchmarks.fuzz [--messages 200000] [--seed 1] [--target front --only 4711]`

Of the messages 7 of 10 go to the real front over a real channel, with a worker that answers at once; 1 of 10 to the
real worker with a tiny network, images and all; 2 of 10 are damaged images, decoded only. The statuses of
service/errors.py are allowed, but INTERNAL is a fault; so is a line of the log at level ERROR. Message k of a seed is
always the same one, whatever comes before it: `--target` and `--only` send it alone.
"""

import argparse
import asyncio
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from handlers.worker import Worker
from tests.fuzz.targets import Findings, errors_logged, fuzz_front, fuzz_image, fuzz_worker, fuzzed_front, tiny_worker

SHARES = {"front": 0.7, "worker": 0.1, "image": 0.2}


async def run(target: str, worker: Worker, findings: Findings, seed: int, numbers: Iterable[int], total: int) -> None:
    """Send the messages of one target."""
    with tqdm(total=total, desc=target, unit=" messages", mininterval=5) as bar:
        if target == "front":
            async with fuzzed_front(worker) as service:
                await fuzz_front(service, findings, seed, iter(numbers), bar.update)
            return
        for number in numbers:
            if target == "worker":
                fuzz_worker(worker, findings, seed, number)
            else:
                fuzz_image(findings, seed, number)
            bar.update()


def table(findings: Findings) -> str:
    """How often each status came."""
    lines = ["| target | messages | statuses | slowest |", "|---|---|---|---|"]
    for target, counts in findings.statuses.items():
        statuses = ", ".join(f"{status} {count:,}" for status, count in counts.most_common())
        seconds, number = findings.slowest[target]
        lines.append(f"| {target} | {counts.total():,} | {statuses} | {seconds:.2f} s (number {number}) |")
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=SHARES, help="only this one, with all the messages")
    parser.add_argument("--only", type=int, help="the number of one message")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    findings, began = Findings(), time.monotonic()
    shares = SHARES if arguments.target is None else {arguments.target: 1.0}
    with tempfile.TemporaryDirectory() as folder, errors_logged() as lines:
        worker = tiny_worker(Path(folder))
        for target, share in shares.items():
            count = round(arguments.messages * share) if arguments.only is None else 1
            numbers = range(count) if arguments.only is None else [arguments.only]
            asyncio.run(run(target, worker, findings, arguments.seed, numbers, count))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "pillow", "torch"))
    print(f"{date.today()}, Python {platform.python_version()}, {packages}, seed {arguments.seed},")
    print(f"{time.monotonic() - began:.0f} s, peak memory {memory:.0f} MB\n")
    print(table(findings))
    print(f"\n{len(findings.faults)} faults, {len(lines)} errors in the log")
    for line in (findings.faults + lines)[:50]:
        print(line)
    sys.exit(1 if findings.faults or lines else 0)


if __name__ == "__main__":
    main()
