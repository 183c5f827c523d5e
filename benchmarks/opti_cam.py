"""What Opti-CAM finds, and what it costs: its two presets against each other and against Grad-CAM.

`python -m benchmarks.opti_cam [--networks NAME ...] [--images N]`

On every photograph of the real set, for the class that the network predicts. Writes docs/benchmarks/opti_cam.md and the
curves docs/images/opti_cam_curves.png. Each network has a process of its own with one thread. The cost of a
step, the last section, is benchmarks/opti_cam_cost.py.
"""

import argparse
import functools
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.opti_cam_cost import NETWORKS, TABLE, TITLE
from benchmarks.timing import machine
from explainers import METHODS, Network, TopK, upsample
from explainers.masking import masked_logits, min_max
from explainers.opti_cam import PRESETS, OptiCam
from tests.real_networks import prepared

GRAD_CAM = "Grad-CAM"
METHOD_NAMES = (GRAD_CAM, *PRESETS)
CURVES = Path("docs/images/opti_cam_curves.png")

Values = NDArray[np.float64]

# Found by hand; "six" are every fourth photograph.
OTHER_WAYS = """\
`fast` goes by the mask: each step wants a mask a little further up the gradient, and u is fitted to it without a pass
through the network (`explainers/mixing.py`). On cifar10_resnet20 12 larger steps of that fit in place of 25 reach
18.47, and equal steps in every cell of the mask 17.53.

Steps in u itself were left. On SqueezeNet they stayed below `published`. Tried there on six of the photographs, with at
most 49 steps each (`published` 31.55): signs of the running mean (30.80), which was `fast` before; Adam at rates of 0.2
to 0.5, on gradients as they are or scaled, with rates that stay or fall (at most 30.76); other rates, momenta and
schedules of the signs (30.63); gradients divided by the shares (30.64), softer signs (30.41), a softer stretch of the
mask (30.52), a mean of the last directions (29.99), steps that change the mask by a given amount (29.97) or that adapt
to rise and fall (29.96), the steepest way in the mask (29.02), back to the best place after a fall (28.89), Rprop
(27.53), signs whose falls are half as long (30.58), signs at a rate that rises first (30.48), Adam at a rate that rises
to 0.35 (29.19) or rises to 0.4 and falls again, with a shorter memory of squares (28.63), Frank-Wolfe on the shares,
towards the best 64 to 2 feature maps (23.93), steps between sign and gradient (21.19). The signs' own 100 steps reach
31.40. On all 24 photographs, at the end of the signs (34.09): the mean of the last 3, 6 or 12 u is no better (34.06,
34.00, 33.86), nor are u 0.8 to 1.5 times as large (33.25 at most) or further along the last 12 steps (34.07). Rounding
alone moves such a mean: `published` reached 34.30 in one run and 34.12 in another."""


@dataclass(frozen=True)
class Found:
    """What a method finds on one network; arrays have one entry for each image.

    Attributes:
        maps: on the native grid.
        plain: probability of the class on the whole image.
        masked: the same on the masked image.
        logits: of the class on the masked image.
        curve: mean of the highest logits so far, after each step.
    """

    maps: list[Values]
    plain: Values
    masked: Values
    logits: Values
    curve: list[float]

    @property
    def average_drop(self) -> float:
        """AD in percent, lower is better."""
        return float(100 * np.mean(np.maximum(0, self.plain - self.masked) / self.plain))

    @property
    def average_gain(self) -> float:
        """AG in percent, higher is better."""
        return float(100 * np.mean(np.maximum(0, self.masked - self.plain) / (1 - self.plain)))

    @property
    def average_increase(self) -> float:
        """AI in percent, higher is better."""
        return float(100 * np.mean(self.masked > self.plain))


class Curve:
    """A watch that keeps the objective of every step, with a progress bar."""

    def __init__(self, title: str) -> None:
        self.values: list[float] = []
        self._progress = tqdm(desc=title, unit="step")

    def step(self, done: int, total: int, objective: float) -> None:
        """Note one step."""
        self.values.append(objective)
        self._progress.total = total
        self._progress.update()
        if done == total:
            self._progress.close()


def find(name: str, count: int | None) -> dict[str, Found]:
    """What every method finds on one network's photographs."""
    torch.set_num_threads(1)
    _, network, photographs = prepared(name)
    images = photographs[:count]
    return {method: _find(name, network, images, method) for method in METHOD_NAMES}


def _find(name: str, network: Network, images: Tensor, method: str) -> Found:
    targets = [TopK()] * len(images)
    curve: list[float] = []
    if method == GRAD_CAM:
        results = METHODS["grad_cam"]().explain(network, images, targets)
    else:
        watch = Curve(f"{name}, {method}")
        results = OptiCam(preset=method).explain(network, images, targets, watch=watch)
        curve = watch.values
    maps = torch.stack([result.explanations[0].map for result in results])
    classes = torch.tensor([[result.explanations[0].target] for result in results])
    with torch.inference_mode():
        logits = masked_logits(network, images, min_max(upsample(maps, network.input_size))).double()
    plain = torch.stack([result.logits for result in results]).double().softmax(dim=1)
    return Found(
        maps=[saliency.double().numpy() for saliency in maps],
        plain=plain.gather(1, classes).flatten().numpy(),
        masked=logits.softmax(dim=1).gather(1, classes).flatten().numpy(),
        logits=logits.gather(1, classes).flatten().numpy(),
        curve=curve,
    )


def passes(method: str) -> str:
    """Network passes of a preset: one for the activation, two a step, one to look at the last."""
    return "1 and the head" if method == GRAD_CAM else str(1 + 2 * PRESETS[method].steps + 1)


def rank_correlation(a: Values, b: Values) -> float:
    """Spearman's, of two maps."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Values) -> Values:
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2  # equal values share one
    return np.asarray(mean_ranks[inverse])


def report(found: Mapping[str, Mapping[str, Found]], command: str) -> str:
    """The results as Markdown."""
    count = len(next(iter(found.values()))[GRAD_CAM].maps)
    lines = [
        "# Opti-CAM: what it finds and what it costs",
        "",
        f"`{command}`",
        "",
        f"{machine()}. {count} photographs of the real set, the predicted class of each.",
        "cifar10_resnet20 knows ten classes, from images of 32 x 32. It gets the photographs squashed to that size;",
        "its class is the one that it predicts, right or not.",
        "",
        "## Presets",
        "",
        "Mean logit of the class under the mask; average drop (lower is better), gain and increase (higher is better).",
        "*Beats*: share of the images whose logit under the mask is above Grad-CAM's.",
        "",
        "| network | method | passes | logit | AD | AG | AI | beats |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(network, method, by_method) for network, by_method in found.items() for method in METHOD_NAMES),
        "",
        "![Mean logit under the mask against network passes](../images/opti_cam_curves.png)",
        "",
        OTHER_WAYS,
        "",
        "## How far the maps differ",
        "",
        "Very different mixtures of feature maps can score almost alike. `published` is the default because its maps",
        "are the paper's; `fast` finds others. A climb enlarges even rounding errors until they show in the map.",
        "",
        "Rank correlation of two maps of one image on the native grid: median, and lowest of the images. *Not below*:",
        "share of the images on which fast reaches published's logit less 1 %.",
        "",
        "| network | published and fast | published and Grad-CAM | not below |",
        "|---|---|---|---|",
        *(_difference(network, by_method) for network, by_method in found.items()),
        "",
    ]
    return "\n".join(lines) + "\n\n"


def _row(network: str, method: str, by_method: Mapping[str, Found]) -> str:
    one = by_method[method]
    beats = "" if method == GRAD_CAM else f"{100 * np.mean(one.logits > by_method[GRAD_CAM].logits):.0f} %"
    figures = " | ".join(f"{x:.1f}" for x in (one.average_drop, one.average_gain, one.average_increase))
    return f"| {network} | {method} | {passes(method)} | {one.logits.mean():.2f} | {figures} | {beats} |"


def _difference(network: str, by_method: Mapping[str, Found]) -> str:
    published = by_method["published"]
    cells = []
    for other in ("fast", GRAD_CAM):
        pairs = zip(published.maps, by_method[other].maps, strict=True)
        correlations = [rank_correlation(*pair) for pair in pairs]
        cells.append(f"{np.median(correlations):.2f}, {min(correlations):.2f}")
    enough = by_method["fast"].logits >= published.logits - 0.01 * np.abs(published.logits)
    return f"| {network} | {' | '.join(cells)} | {100 * np.mean(enough):.0f} % |"


def draw(found: Mapping[str, Mapping[str, Found]], file: Path) -> None:
    """Curves of the mean logit against network passes, one panel for each network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(found), figsize=(4.2 * len(found), 3.4), layout="constrained", squeeze=False
    )
    for panel, (network, by_method) in zip(panels[0], found.items(), strict=True):
        for preset, colour in zip(PRESETS, ("#4053d3", "#dd8a1b"), strict=True):
            curve = by_method[preset].curve
            panel.plot([2 + 2 * step for step in range(1, len(curve) + 1)], curve, color=colour, label=preset)
        panel.axhline(by_method[GRAD_CAM].logits.mean(), color="#777777", linestyle=":", label=GRAD_CAM)
        panel.axhline(by_method["published"].curve[-1], color="#4053d3", linewidth=0.7, linestyle="--")
        panel.set(title=network, xlabel="network passes")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("mean logit under the mask")
    panels[0, -1].legend(frameon=False, loc="center right")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--images", type=int, help="the first so many of the photographs; all when not given")
    arguments = parser.parse_args()
    text = _presets(arguments.networks, arguments.images)
    print(text)
    _, title, costs = TABLE.read_text(encoding="utf-8").partition(TITLE)
    TABLE.write_text(f"{text.rstrip()}\n\n{title}{costs}", encoding="utf-8")


def _presets(networks: list[str], count: int | None) -> str:
    """All sections but the costs; draws the curves."""
    workers = ProcessPoolExecutor(len(networks), mp_context=multiprocessing.get_context("spawn"))
    with workers as pool:
        found = dict(zip(networks, pool.map(functools.partial(find, count=count), networks), strict=True))
    draw(found, CURVES)
    return report(found, "python -m benchmarks.opti_cam" + (f" --images {count}" if count else ""))


if __name__ == "__main__":
    main()
