"""What do maps depend on: on the class, on the weights, on the seed? Asked of the default models.

`python -m benchmarks.dependence [--pairs 6] [--methods grad_cam,gradient] [--output docs/benchmarks/dependence.md]`

Photographs with two handwritten digits, each of both explained. Default parameters throughout.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.opti_cam_gain import HALF, SIDE
from benchmarks.timing import machine
from explainers import METHODS, Classes, ImageResult, Method, Network, NotApplicableError, Stepwise, specs
from model_store.digits.data import samples
from model_store.digits.models import load_model
from quality import ModelRandomisation, explain_by, of_results
from quality.ranks import rank_correlation

STAGES = 4
HEAD = """\
# What maps depend on

`{command}`

{machine}. {pairs} photographs with two digits that neither default model has seen; median rank correlation
(Spearman, on the map's own grid) of two maps, default parameters. 1: they order all places alike; 0: not at all.

- *Classes*: the maps of the two digits of one photograph. They are in different places, so a map that is about the
  class should differ.
- *Weights*: a map and the one after the weights became random, mean over {stages} stages from the output down
  (`model_randomisation`), for the methods of few passes.
- *Seeds*: the map of seed 0 and that of seed 1, for the methods that draw random numbers.

All places count alike, most of them background. Constant maps have no correlation and are left out.

"""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model with what it is asked."""

    name: str
    model: nn.Module
    network: Network
    images: Tensor
    classes: list[Classes]


def subject(name: str, pairs: int) -> Subject:
    """A default model and photographs with two digits."""
    chosen = list(samples("held_out", pairs, 0, digits=2))
    pixels = torch.stack([torch.from_numpy(each.image) for each in chosen]).permute(0, 3, 1, 2).float() / 255
    model = load_model(name)
    network = Network(model, input_size=(SIDE, SIDE), mean=HALF, std=HALF)
    classes = [Classes((int(each.labels[0]), int(each.labels[1]))) for each in chosen]
    return Subject(f"digits-{name}", model, network, pixels.contiguous(), classes)


def row(asked: Subject, name: str) -> str | None:
    """One line of the table; None where the method is not defined for the model."""
    method: Method = METHODS[name]()
    try:
        results = method.explain(asked.network, asked.images, asked.classes)
    except NotApplicableError:
        return None
    cells = [between_classes(results), weights(asked, method, results), seeds(asked, method, results)]
    return f"| `{name}` | " + " | ".join(cells) + " |"


def between_classes(results: list[ImageResult]) -> str:
    """Of the first class's map with the second one's."""
    first, second = (torch.stack([result.explanations[k].map for result in results]).flatten(1) for k in (0, 1))
    return median(rank_correlation(first, second))


def weights(asked: Subject, method: Method, results: list[ImageResult]) -> str:
    """Of a map with those of random weights."""
    if isinstance(method, Stepwise):
        return ""
    evidence = of_results(asked.network, asked.images, results, explain=explain_by(method), model=asked.model)
    try:
        return median(ModelRandomisation(stages=STAGES).values(evidence))
    except NotApplicableError:  # CAM: it does not know a classifier that it can't recognise
        return "not defined"


def seeds(asked: Subject, method: Method, results: list[ImageResult]) -> str:
    """Of a map with that of another seed."""
    if "seed" not in {spec.name for spec in specs(type(method))}:
        return ""
    again = dataclasses.replace(method, seed=1).explain(  # type: ignore[type-var]
        asked.network, asked.images, asked.classes
    )
    first, second = (
        torch.stack([item.map for result in side for item in result.explanations]).flatten(1)
        for side in (results, again)
    )
    return median(rank_correlation(first, second))


def median(values: Tensor) -> str:
    """Of those that are numbers."""
    return f"{values[values.isfinite()].double().quantile(0.5):.2f}" if values.isfinite().any() else "none"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6, help="photographs with two digits")
    parser.add_argument("--methods", default=",".join(METHODS), help="names between commas; all unless given")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    command = f"python -m benchmarks.dependence --pairs {arguments.pairs} --methods {arguments.methods}"
    page = HEAD.format(command=command, machine=machine(), pairs=arguments.pairs, stages=STAGES)
    for name in ("cnn", "vit"):
        asked = subject(name, arguments.pairs)
        page += f"## {asked.name}\n\n| method | classes | weights | seeds |\n|---|---|---|---|\n"
        for method in arguments.methods.split(","):
            line = row(asked, method)
            print(line or f"{method}: not defined", file=sys.stderr, flush=True)
            page += f"{line}\n" if line else ""
        page += "\n"
    page = page.rstrip() + "\n"
    if arguments.output:
        arguments.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
