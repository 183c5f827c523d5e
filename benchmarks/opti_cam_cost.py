"""What a step of Opti-CAM costs, in forward passes of the bare network.

`python -m benchmarks.opti_cam_cost [--networks NAME ...] [--seconds 20]`

In processor time of one thread, with freed memory kept as a worker keeps it. Writes the last section of
docs/benchmarks/opti_cam.md, and leaves the others.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import grad_cam_cost
from benchmarks.flops import operations
from benchmarks.timing import Comparison, compare
from explainers import Network
from explainers.alike import SMALL_MAP, WORTH_STARTING
from explainers.opti_cam import PRESETS, MaskedScore
from explainers.pairs import Pairs
from explainers.rows import TRIED, TRIED_SMALL, batch_sizes
from handlers.memory import keep_for_reuse
from tests.real_networks import prepared

NETWORKS = ("mobilenet_v2_1.0_224", "squeezenet1_1", "vit_tiny_patch16_224", "cifar10_resnet20")
TABLE = Path("docs/benchmarks/opti_cam.md")
TITLE = "## Cost of a step"  # of the document's last section


@dataclass(frozen=True)
class Step:
    """What a step costs, in forward passes of the bare network.

    Attributes:
        time: of the step, of a step of `fast` with its fit, and of a bare pass with its gradient.
        operations: multiplications and additions of matrix products and convolutions, without any others.
        together: whether several rows go through the network together.
    """

    time: Comparison
    operations: float
    together: bool


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS), help="and ResNet-50")
    parser.add_argument("--seconds", type=float, default=20, help="for each network and batch")
    arguments = parser.parse_args()
    section = cost_report(arguments.networks, arguments.seconds)
    print(section)
    TABLE.write_text(TABLE.read_text(encoding="utf-8").partition(TITLE)[0] + section, encoding="utf-8")


def cost_report(networks: Sequence[str], seconds: float) -> str:
    """The section, of these networks and ResNet-50, at batches of 1 and 8."""
    torch.set_num_threads(1)
    keep_for_reuse()
    cases = [(name, batch) for name in (*networks, "resnet50") for batch in (1, 8)]
    steps = {case: measure_step(*case, seconds) for case in cases}
    lines = [
        TITLE,
        "",
        "In forward passes of the bare network, processor time of one thread: median (25th-75th percentile) of pairs.",
        "Freed memory is kept, as a worker keeps it.",
        "",
        "`python -m benchmarks.opti_cam_cost`. *Step of fast* has its fit of the mixture as well. *Pass and gradient*",
        "is a forward pass of the model as it is, and its gradient with respect to the image. *Operations* are those",
        "of convolutions and matrix products, counted.",
        "",
        "| network | batch | forward pass | step | step of fast | pass and gradient | operations of a step |",
        "|---|---|---|---|---|---|",
        *(_cost(*case, result) for case, result in steps.items()),
        "",
        "A step leaves out what its score doesn't need: batch normalisations, which are folded into the convolutions,",
        "and all rows of a transformer's last block but the class token's. A transformer's attention multiplies two",
        "activations, so its gradient takes twice the products of its forward pass, where a layer with fixed weights",
        "takes as many; GELU, softmax and normalisation take more for their gradients than for themselves.",
        "",
        f"In a batch up to {TRIED[0]} rows go through a network together, or {TRIED_SMALL[0]} where images are small;",
        "each gets the bits that it gets alone.",
        *_alone(steps),
        f"Torch computes a convolution of a small map (up to {SMALL_MAP} values) otherwise for one image than for",
        "several: its own way for one, and oneDNN, which is faster, for several. A climb would enlarge the difference",
        "(the maps of cifar10_resnet20, all of whose maps are small, were others by up to 0.33 in a batch of four, by",
        f"0.04 in the median; tried by hand). So a step takes oneDNN for both from {WORTH_STARTING} values on, where",
        "it takes one image little longer, and torch's own way for both below.",
    ]
    return "\n".join(lines) + "\n"


def _alone(steps: Mapping[tuple[str, int], Step]) -> list[str]:
    names = [name for (name, batch), step in steps.items() if batch > 1 and not step.together]
    if not names:
        return []
    return [f"Not so in {' and '.join(names)}, whose rows go one by one."]


def _cost(name: str, batch: int, step: Step) -> str:
    costs = " | ".join(str(step.time.costs[program]) for program in ("step", "fast", "gradient"))
    return f"| {name} | {batch} | {1000 * step.time.baseline_seconds:.1f} ms | {costs} | {step.operations:.2f} |"


def measure_step(name: str, batch: int, seconds: float) -> Step:
    """A step of Opti-CAM, in forward passes of the bare network."""
    model, network, images = _subject(name, batch)
    layer = network.target_layer.path
    recording = network.record(images, layer)
    pairs = Pairs.of([(index,) for index in recording.logits.argmax(dim=1).tolist()], network.device)
    score = MaskedScore(network, images, recording.activation, pairs)
    mixture, rows = torch.zeros(batch, recording.activation.shape[1]), torch.arange(batch)
    mean, std = (torch.rand(1, 3, 1, 1) + 0.5 for _ in range(2))
    inputs = (images - mean) / std

    def forward() -> None:
        with torch.inference_mode():
            model(inputs)

    def gradient() -> None:
        pixels = images.clone(memory_format=torch.channels_last).requires_grad_()
        torch.autograd.grad(network.logits(pixels).sum(), pixels)

    def step() -> None:
        score(mixture, rows, True)

    by_map = MaskedScore(network, images, recording.activation, pairs, by_map=True)
    rule = PRESETS["fast"].rule(PRESETS["fast"].learning_rate, 10**6, by_map.mixtures, mixture)

    def fast_step() -> None:
        _, slopes = by_map(mixture, rows, True)
        assert slopes is not None  # noqa: S101 - for the type checker
        rule.move(slopes)

    time_spent = compare(
        forward,
        {"step": step, "fast": fast_step, "gradient": gradient},
        seconds=seconds,
        least_pairs=5,
        title=f"{name}, batch {batch}",
        clock=time.process_time,
    )
    together = max(batch_sizes(network.for_many_passes(rows_alike=True), batch)) > 1
    return Step(time_spent, operations(step) / operations(forward), together)


def _subject(name: str, batch: int) -> tuple[nn.Module, Network, Tensor]:
    if name in NETWORKS:
        model, network, images = prepared(name)
        return model, network, images[:batch]
    model = grad_cam_cost.build(name, torch.device("cpu"))
    side = grad_cam_cost.SIDE
    network = Network(model, input_size=(side, side), mean=grad_cam_cost.MEAN, std=grad_cam_cost.STD)
    return model, network, torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
