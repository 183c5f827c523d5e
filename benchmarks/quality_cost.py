"""What the metrics of an explanation cost, in forward passes.

`python -m benchmarks.quality_cost [--images 4] [--pairs 5] [--long-pairs 1] [--cpu-time] [--output FILE.md]`

One forward pass of the bare network on the whole batch under inference mode is 1. The maps are Grad-CAM's, one class an
image, and come with the logits of the unmasked images. Random weights: they cost what trained ones do.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from benchmarks.grad_cam_cost import MEAN, SIDE, STD, build
from benchmarks.timing import Cost, Program, compare, machine
from explainers import METHODS, Network, TopK
from quality import METRICS, Metric, of_results

ROWS: dict[str, tuple[tuple[str, dict[str, int]], ...]] = {
    "AD, AI, AG": (("average_drop", {}), ("average_increase", {}), ("average_gain", {})),
    "insertion, deletion, 8 steps": (("insertion", {"steps": 8}), ("deletion", {"steps": 8})),
    "insertion, deletion, 16 steps": (("insertion", {"steps": 16}), ("deletion", {"steps": 16})),
    "insertion, deletion, 224 steps": (("insertion", {}), ("deletion", {})),
    "positive and negative perturbation": tuple(
        (name, {}) for name in METRICS if name.endswith(("tive_perturbation", "with_zero"))
    ),
    "saliency metric": (("saliency_metric", {}),),
    "sparseness, entropy, border, corners": tuple(
        (name, {}) for name in ("gini_sparseness", "entropy", "border_mass", "corner_mass")
    ),
    "MaxBoxAcc, 100 thresholds": (("max_box_accuracy", {}),),
}
LONG = "insertion, deletion, 224 steps"


def programs(network: Network, images: Tensor) -> dict[str, Program]:
    """Each row of the table, from maps and logits to values."""
    results = METHODS["grad_cam"]().explain(network, images, [TopK(1)] * len(images))
    boxes = tuple(torch.tensor([[20.0, 30.0, 150.0, 180.0]]) for _ in images)

    def program(metrics: list[Metric]) -> Callable[[], object]:
        def run() -> object:
            evidence = of_results(network, images, results, boxes=boxes)
            return [metric.values(evidence) for metric in metrics]

        return run

    return {title: program([METRICS[name](**parameters) for name, parameters in row]) for title, row in ROWS.items()}


def passes(network: Network, program: Program, images: int) -> float:
    """Forward passes of a program for each image."""
    with mock.patch.object(network, "logits", wraps=network.logits) as logits:
        program()
    return sum(len(call.args[0]) for call in logits.call_args_list) / images


def report(arguments: argparse.Namespace) -> str:
    """Measure everything and lay it out as Markdown."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(arguments.network, device)
    network = Network(model, input_size=(SIDE, SIDE), mean=MEAN, std=STD, device=device)
    images = torch.rand(arguments.images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    normalised = images.to(device)

    def forward() -> object:
        with torch.inference_mode():
            return model(normalised)

    made = programs(network, images)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    costs: dict[str, Cost] = {}
    for title, program in made.items():
        pairs = arguments.long_pairs if title == LONG else arguments.pairs
        found = compare(forward, {title: program}, seconds=0, least_pairs=pairs, title=title, clock=clock)
        costs[title] = found.costs[title]
    rows = (
        f"| {title} | {passes(network, program, len(images)):.2f} | {costs[title]} | {costs[title].pairs} |\n"
        for title, program in made.items()
    )
    command = f"python -m benchmarks.quality_cost --network {arguments.network} --images {len(images)}"
    return (
        "# What the metrics cost\n\nOne forward pass of the bare network is 1. The maps are given, with the logits of "
        "the unmasked images, one class an image.\n\n"
        f"`{command}{' --cpu-time' * arguments.cpu_time}`: {arguments.network}, batch {len(images)}, {machine()}\n\n"
        "| metrics | passes an image | cost in forward passes, median (quartiles) | pairs |\n|---|---|---|---|\n"
        + "".join(rows)
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--long-pairs", type=int, default=1, help="pairs for the row of 224 steps")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time: for a machine that others use")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    text = report(arguments)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
