"""Why is Opti-CAM not first in average gain on the digits? Its climb, and what else could have been the reason.

`python -m benchmarks.opti_cam_gain [--pairs 12] [--single] [--rows "grad_cam;signs"]`

For digits-cnn: average drop, gain and increase of maps, and how the logits move behind the mask: that of the explained
class, the log-sum-exp of all other classes, and that of the other digit in the photograph. Rows named by a method are
that method; the others are Opti-CAM's objective climbed in another way.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.timing import machine
from evaluation.choices import parse_methods
from explainers import Classes, Network, upsample
from explainers.ascent import Adam, Rule, climb
from explainers.masking import masked_logits, min_max
from explainers.opti_cam import MaskedScore
from explainers.pairs import Pairs
from model_store.digits.data import samples
from model_store.digits.models import load_model
from quality.masked import relative_drop, relative_gain

SIDE = 96
HALF = (0.5, 0.5, 0.5)


class LogProbability(MaskedScore):
    """The same climb for the logarithm of the class's probability."""

    def _logits(self, masked: Tensor) -> Tensor:
        return super()._logits(masked).log_softmax(dim=1)


class SignMomentum:
    """Every parameter moves by the same length, in the direction of its gradient's running mean.

    m = beta m + (1 - beta) g / mean(abs(g)) and u += rate_t sign(m), with rate_t falling from the learning rate to zero
    in a straight line over the steps. The gradient of softmax shrinks with a channel's share; the sign forgets that,
    so channels that count little so far rise as fast as others.
    """

    BETA = 0.3

    def __init__(self, learning_rate: float, steps: int) -> None:
        self._learning_rate = learning_rate
        self._total = steps
        self._steps = 0
        self._mean: Tensor | float = 0.0

    def move(self, gradient: Tensor) -> Tensor:
        """As `Rule.move`."""
        scale = gradient.abs().mean(dim=1, keepdim=True)
        unit = gradient / scale.masked_fill(scale == 0, 1)
        self._mean = self.BETA * self._mean + (1 - self.BETA) * unit
        rate = self._learning_rate * (1 - self._steps / self._total)
        self._steps += 1
        return rate * self._mean.sign()


@dataclass(frozen=True)
class Data:
    """Images, shape (n, 3, 96, 96), in [0, 1], and the classes in them."""

    images: Tensor
    classes: list[tuple[int, ...]]


Maps = Callable[[Network, Data], list[Tensor]]
"""To one map for each class of each image."""


def by_method(text: str, network: Network, data: Data) -> list[Tensor]:
    """Maps of a method in text form."""
    (method,) = parse_methods([text]).values()
    results = method.explain(network, data.images, [Classes(row) for row in data.classes])
    return [each.map for result in results for each in result.explanations]


def by_climb(
    kind: type[MaskedScore], rule: Callable[[], Rule], steps: int, network: Network, data: Data
) -> list[Tensor]:
    """Maps of Opti-CAM with an objective, a rule and a number of steps."""
    with torch.no_grad():
        layer = (
            network.target_layer.path
        )  # each image by itself, as the method does it: a climb enlarges rounding errors
        activation = torch.cat([network.record(each, layer).activation.relu() for each in torch.split(data.images, 1)])
        pairs = Pairs.of(data.classes, network.device)
        score = kind(network, data.images, activation, pairs)
        best = climb(score, activation.new_zeros(len(pairs), activation.shape[1]), rule(), steps)
        return list(score.maps(best))


_METHODS = ("fake_cam", "cam", "grad_cam", "score_cam", "rise:samples=300", "opti_cam:preset=fast")
ROWS: dict[str, Maps] = {
    **{name: partial(by_method, name) for name in _METHODS},
    "published: Adam, rate 0.1, 100 steps": partial(by_climb, MaskedScore, lambda: Adam(0.1), 100),
    "300 steps": partial(by_climb, MaskedScore, lambda: Adam(0.1), 300),
    "rate 0.5": partial(by_climb, MaskedScore, lambda: Adam(0.5), 100),
    "signs": partial(by_climb, MaskedScore, lambda: SignMomentum(0.5, 48), 48),
    "published, log probability": partial(by_climb, LogProbability, lambda: Adam(0.1), 100),
    "signs, log probability": partial(by_climb, LogProbability, lambda: SignMomentum(0.5, 48), 48),
}


def others(logits: Tensor, index: int) -> Tensor:
    """The log-sum-exp of all classes but one."""
    return torch.cat([logits[:index], logits[index + 1 :]]).logsumexp(0)


def row(name: str, network: Network, data: Data) -> str:
    """One line of the table."""
    pairs = [(image, index) for image, classes in enumerate(data.classes) for index in classes]
    full = network.predict(data.images).double()
    masks = torch.stack([upsample(each.float(), (SIDE, SIDE)) for each in ROWS[name](network, data)])
    with torch.no_grad():
        pixels = data.images[[image for image, _ in pairs]]
        behind = masked_logits(network, pixels, min_max(masks)).double()
    before = full[[image for image, _ in pairs]]
    rows, columns = torch.arange(len(pairs)), torch.tensor([index for _, index in pairs])
    p, o = (logits.softmax(1)[rows, columns] for logits in (before, behind))
    own = behind[rows, columns] - before[rows, columns]
    rest = [others(behind[i], index) - others(before[i], index) for i, (_, index) in enumerate(pairs)]
    partners = [[other for other in data.classes[image] if other != index] for image, index in pairs]
    partner = [behind[i, other] - before[i, other] for i, found in enumerate(partners) for other in found]
    cells = [100 * relative_drop(p, o).mean(), 100 * relative_gain(p, o).mean(), 100 * (o > p).double().mean()]
    moves = [own.mean(), torch.stack(rest).mean(), *([torch.stack(partner).mean()] if partner else [])]
    texts = [f"{cell:.1f}" for cell in cells] + [f"{move:+.2f}" for move in moves]
    return f"| {name} | " + " | ".join(texts + [""] * (6 - len(texts))) + " |"


def prepare(count: int, digits: int) -> tuple[Network, Data]:
    """digits-cnn, and the photographs of `whylight evaluate --data digits` (or digits-single)."""
    found = list(samples("held_out", count, 0, digits=digits))
    pixels = torch.stack([torch.from_numpy(each.image) for each in found]).permute(0, 3, 1, 2).float() / 255
    data = Data(pixels.contiguous(), [tuple(map(int, each.labels)) for each in found])
    network = Network(load_model("cnn"), input_size=(SIDE, SIDE), mean=HALF, std=HALF)
    return network, data


def measure(names: Sequence[str], network: Network, data: Data) -> None:
    """Print the table."""
    print("| map | AD | AG | AI | own logit | all others | the other digit |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        print(row(name, network, data), flush=True)


def draw(path: Path) -> None:
    """The first photograph behind three maps of its second digit, as one strip."""
    network, data = prepare(1, 2)
    data = Data(data.images, [data.classes[0][1:]])
    strip = [data.images[0]]
    for name in ("published: Adam, rate 0.1, 100 steps", "signs", "score_cam"):
        (saliency,) = ROWS[name](network, data)
        strip.append(data.images[0] * min_max(upsample(saliency.float(), (SIDE, SIDE))[None]))
    pixels = (torch.cat(strip, dim=2).permute(1, 2, 0) * 255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.numpy())
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BILINEAR).save(path, optimize=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="photographs")
    parser.add_argument("--single", action="store_true", help="with one digit in each, not two")
    parser.add_argument("--rows", help=f"between semicolons, of: {', '.join(ROWS)}")
    parser.add_argument("--picture", type=Path, help="draw one photograph behind three maps, and measure nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.picture:
        draw(arguments.picture)
        return
    print(f"{machine()}\n")
    chosen = arguments.rows.split(";") if arguments.rows else list(ROWS)
    measure(chosen, *prepare(arguments.pairs, 1 if arguments.single else 2))


if __name__ == "__main__":
    main()
