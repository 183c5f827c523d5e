"""What a forward pass on a CPU saves where freed memory is kept for the next tensor (`handlers.memory`).

`python -m benchmarks.memory_reuse [--networks NAME ...] [--seconds 20] [--output docs/performance.md]`

The setting is for a whole process, so there are two, one with it and one without, which take turns. Random weights.
"""

import argparse
import multiprocessing
import resource
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks.grad_cam_cost import SIDE, build
from benchmarks.reliability.tables import fill, table
from benchmarks.timing import Comparison, compare, machine
from handlers.memory import keep_for_reuse

NETWORKS = ("mobilenet_v2", "resnet50", "vgg16_bn", "vit_b_16")
BATCHES = (1, 4, 8)
PAIRS = 7
WARM_UP = 3
KEPT = "kept"


def compute(pipe: Connection, name: str, batch: int, keep: bool) -> None:
    """In a process of its own: one pass for each message but the last, None. Each answer is its page faults."""
    torch.set_num_threads(1)
    if keep and not keep_for_reuse():
        raise SystemExit("this C library can't be told to keep memory")
    model, images = build(name, torch.device("cpu")), torch.rand(batch, 3, SIDE, SIDE)
    with torch.inference_mode():
        while pipe.recv() is not None:
            before = _faults()
            model(images)
            pipe.send(_faults() - before)


def measure(name: str, batch: int, seconds: float) -> tuple[Comparison, Mapping[bool, int]]:
    """The time with kept memory by that without, and the page faults of a pass with (True) and without."""
    spawn = multiprocessing.get_context("spawn")
    ends: dict[bool, Connection] = {}
    for keep in (False, True):
        ends[keep], theirs = spawn.Pipe()
        spawn.Process(target=compute, args=(theirs, name, batch, keep), daemon=True).start()
        theirs.close()

    def passes(keep: bool) -> Callable[[], int]:
        def run() -> int:
            ends[keep].send(True)
            return int(ends[keep].recv())

        return run

    for keep in ends:
        for _ in range(WARM_UP):
            passes(keep)()
    made = compare(
        passes(False), {KEPT: passes(True)}, seconds=seconds, least_pairs=PAIRS, title=f"{name}, batch {batch}"
    )
    faults = {keep: passes(keep)() for keep in ends}
    for end in ends.values():
        end.send(None)
        end.close()
    return made, faults


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seconds", type=float, default=20, help="for each network and batch size")
    parser.add_argument("--output", type=Path, help="document with a place for the section")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # said in the table
    rows = []
    for name in arguments.networks:
        for batch in BATCHES:
            made, faults = measure(name, batch, arguments.seconds)
            time = f"{1000 * made.baseline_seconds:.1f} ms"
            rows.append([name, batch, time, faults[False], made.costs[KEPT], faults[True]])
    head = ["network", "batch", "forward pass", "page faults", "with kept memory", "page faults with it"]
    text = "\n\n".join([f"{machine()}. Median (25th-75th percentile) of paired ratios.", table(head, rows)])
    print(text)
    if arguments.output:
        fill(arguments.output, "memory_reuse", text)


if __name__ == "__main__":
    main()
