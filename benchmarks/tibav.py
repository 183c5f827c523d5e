"""How reliable TIBAV's rules are in each precision, what they are worth, and what they cost.

`python -m benchmarks.tibav [--quick] [--cpu-time] [--output docs/benchmarks/tibav.md]`

Reliability and worth: the real ViT-Tiny on every shared photograph, for its top class. Cost: in forward passes of the
bare network, from pixels to finished results.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.flops import operations
from benchmarks.grad_cam_cost import MEAN, SIDE, STD, build
from benchmarks.timing import Program, compare, machine
from explainers import METHODS, Classes, Network, Tibav, TopK
from explainers.attention_method import explain_tokens
from explainers.targets import Targets
from tests.real_networks import prepared

VIT_TINY = "vit_tiny_patch16_224"
RULES = ("stable", "published")
NOISE = 1e-7  # about the rounding error of a pixel in float32
GRID = 14
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
COLUMNS = ("tibav stable", "tibav stable, 5 targets", "tibav published", "attention_rollout", "grad_cam")


@dataclass(frozen=True)
class Photographs:
    """What is explained: the network, (n, 3, 224, 224) pixels, and the top class of each."""

    network: Network
    pixels: Tensor
    classes: tuple[int, ...]

    def maps(self, rule: str, dtype: torch.dtype, noise: float = 0.0) -> Tensor:
        """Normalised maps (n, 196), float64, with every step in one precision, and noise on the pixels."""
        generator = torch.Generator().manual_seed(0)
        pixels = self.pixels + noise * torch.randn(self.pixels.shape, generator=generator, dtype=torch.float64)
        found = []
        for start in range(0, len(pixels), 8):
            targets: list[Targets] = [Classes((index,)) for index in self.classes[start : start + 8]]
            batch = pixels[start : start + 8]
            results = explain_tokens(self.network, batch, targets, Tibav(rule=rule).run, dtype)
            found += [result.explanations[0].map.flatten().double() for result in results]
        return torch.stack(found)

    def probabilities(self, keep: Tensor) -> Tensor:
        """Of the classes, where only some patches are kept; the others get the photograph's mean colour."""
        mask = keep.reshape(-1, 1, GRID, GRID).repeat_interleave(SIDE // GRID, 2).repeat_interleave(SIDE // GRID, 3)
        mean = self.pixels.mean(dim=(2, 3), keepdim=True)
        logits = self.network.predict(self.pixels * mask + mean * (1 - mask))
        return logits.softmax(dim=1)[torch.arange(len(keep)), list(self.classes)]


def photographs(count: int | None) -> Photographs:
    """The shared photographs for the real ViT-Tiny."""
    _, network, pixels = prepared(VIT_TINY)
    pixels = pixels[:count]
    return Photographs(network, pixels, tuple(network.predict(pixels).argmax(dim=1).tolist()))


def reliability(data: Photographs) -> tuple[list[str], dict[str, Tensor]]:
    """Rows of the table of precision, and the maps of each rule in float64."""
    rows, exact = [], {}
    for rule in RULES:
        exact[rule] = data.maps(rule, torch.float64)
        single, moved = data.maps(rule, torch.float32), data.maps(rule, torch.float64, NOISE)
        rows.append(f"| {rule} | {_errors(single, exact[rule])} | {_errors(moved, exact[rule])} |")
    return rows, exact


def worth(data: Photographs, maps: dict[str, Tensor]) -> list[str]:
    """Rows of the table of faithfulness: what remains of the class's probability by each rule's order of patches."""
    whole = data.probabilities(torch.ones(len(data.classes), GRID**2))
    rows = []
    for rule, values in maps.items():
        ranks = values.argsort(dim=1, descending=True).argsort(dim=1)
        removed, kept = [], []
        for share in SHARES:
            top = (ranks < share * GRID**2).float()
            removed.append(data.probabilities(1 - top) / whole)
            kept.append(data.probabilities(top) / whole)
        rows.append(f"| {rule} | {torch.stack(removed).mean():.3f} | {torch.stack(kept).mean():.3f} |")
    return rows


def cost(title: str, model: nn.Module, network: Network, images: Tensor, arguments: argparse.Namespace) -> str:
    """A row of the table of costs: time and, in brackets, floating point operations, both in forward passes."""

    def forward() -> object:
        with torch.inference_mode():
            return model(images)

    programs = _programs(network, images)
    ratios = {name: operations(program) / operations(forward) for name, program in programs.items()}
    found = compare(
        forward,
        programs,
        seconds=arguments.seconds,
        least_pairs=arguments.pairs,
        title=title,
        clock=time.process_time if arguments.cpu_time else time.perf_counter,
    )
    cells = [f"{found.costs[name].median:.2f} [{ratios[name]:.2f}]" for name in COLUMNS]
    pairs = found.costs[COLUMNS[0]].pairs
    return f"| {title} | {len(images)} | {1000 * found.baseline_seconds:.0f} ms | {' | '.join(cells)} | {pairs} |"


def _programs(network: Network, images: Tensor) -> dict[str, Program]:
    def program(name: str, targets: int = 1, **parameters: str) -> Callable[[], object]:
        method = METHODS[name](**parameters)
        return lambda: method.explain(network, images, [TopK(targets)] * len(images))

    made = program("tibav"), program("tibav", 5), program("tibav", rule="published")
    return dict(zip(COLUMNS, (*made, program("attention_rollout"), program("grad_cam")), strict=True))


def costs(arguments: argparse.Namespace) -> list[str]:
    """Rows for the real ViT-Tiny, and for ViT-B/16 with random weights."""
    model, network, pixels = prepared(VIT_TINY)
    rows = [cost("ViT-Tiny", model, network, pixels[:batch], arguments) for batch in (1, 8)]
    if not arguments.quick:
        model = build("vit_b_16", torch.device("cpu"))
        network = Network(model, input_size=(SIDE, SIDE), mean=MEAN, std=STD)
        rows.append(cost("ViT-B/16", model, network, pixels[:1], arguments))
    return rows


def _errors(maps: Tensor, exact: Tensor) -> str:
    worst = (maps - exact).abs().amax(dim=1)
    return f"{worst.median():.1e} | {worst.max():.1e} | {correlations(maps, exact).min():.3f}"


def correlations(a: Tensor, b: Tensor) -> Tensor:
    """Of the rows of two tables."""
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(a, b, strict=True)])


REPORT = """# TIBAV: reliability, worth and cost

`{command}`

{machine}.

## Reliability

ViT-Tiny, {count} photographs, top class. Error: largest difference of the map in [0, 1] from the one computed in
float64 from the pixels on; median, worst photograph, and lowest correlation. Moved: all in float64, but with noise of
{noise:g} on the pixels, which is about what storing them in float32 does.

| rule | float32 median | worst | correlation | moved median | worst | correlation |
|---|---|---|---|---|---|---|
{reliability}

The published rules amplify whatever the input's last digit is, so that their float64 answer is exact helps little. This
is why `stable` is the default, and why `published` computes in float64 from the pixels on.

## Worth

The two rules' maps correlate with {median:.3f} in the median, {lowest:.3f} at worst. Patches in the order of the map
are replaced by the photograph's mean colour (removed; lower is better), or all others are (kept; higher is better):
probability of the class relative to the whole photograph's, mean over {shares} % of the patches and over the
photographs.

| rule | removed | kept |
|---|---|---|
{worth}

## Cost

In forward passes of the bare network, from pixels to finished results: median of paired ratios of time, in brackets the
ratio of floating point operations as torch's FlopCounterMode counts them. One target an image where not said otherwise.
The operations of `published` are in float64. ViT-B/16 has random weights.

| network | batch | forward pass | {columns} | pairs |
|---|---|---|{rule}---|
{costs}
"""


def report(arguments: argparse.Namespace, command: str) -> str:
    """Everything as Markdown."""
    data = photographs(2 if arguments.quick else None)
    precision, exact = reliability(data)
    likeness = correlations(exact["stable"], exact["published"])
    return REPORT.format(
        command=command,
        machine=machine(),
        count=len(data.classes),
        noise=NOISE,
        reliability="\n".join(precision),
        median=likeness.median(),
        lowest=likeness.min(),
        shares=", ".join(f"{100 * share:g}" for share in SHARES),
        worth="\n".join(worth(data, exact)),
        columns=" | ".join(COLUMNS),
        rule="---|" * len(COLUMNS),
        costs="\n".join(costs(arguments)),
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two photographs, ViT-Tiny only")
    parser.add_argument("--seconds", type=float, default=20, help="for each network and batch size")
    parser.add_argument("--pairs", type=int, default=5, help="at least so many, whatever the time")
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread: for a busy machine")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    command = "python -m benchmarks.tibav"
    if arguments.cpu_time:
        torch.set_num_threads(1)
        command += " --cpu-time"
    if arguments.quick:
        arguments.seconds, arguments.pairs = 2, 3
        command += " --quick"
    elif arguments.seconds != parser.get_default("seconds"):
        command += f" --seconds {arguments.seconds:g}"
    text = report(arguments, command)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
