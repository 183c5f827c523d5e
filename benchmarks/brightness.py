"""How much of average drop and gain is a map's brightness, and how much its order? Asked of digits-vit.

`python -m benchmarks.brightness [--pairs 12]`

Each method's mask is laid on the image as it is, and with the grey values of another method's mask of the same image
and class in its own order: the brightest value where the method's own mask is highest, and so on. Then, for masks as
they are and for TIBAV with Grad-CAM's values: the mean of the mask on the explained digit, on the other one and
elsewhere, and how it moves the logits of both.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from benchmarks.opti_cam_gain import HALF, SIDE, Data, by_method
from benchmarks.timing import machine
from explainers import Network, upsample
from explainers.masking import masked_logits, min_max
from model_store.digits.data import Sample, samples
from model_store.digits.models import load_model
from quality.masked import relative_drop, relative_gain

METHODS = ("grad_cam", "tibav", "raw_attention")
VALUES = ("grad_cam", "tibav")


class Subject:
    """digits-vit with photographs of two digits, and what it says of them.

    Attributes:
        rows: the index of the photograph, the explained class, and the other one, for each map.
    """

    def __init__(self, count: int) -> None:
        self.samples: list[Sample] = list(samples("held_out", count, 0, digits=2))
        pixels = torch.stack([torch.from_numpy(each.image) for each in self.samples]).permute(0, 3, 1, 2).float() / 255
        self.data = Data(pixels.contiguous(), [tuple(map(int, each.labels)) for each in self.samples])
        self.network = Network(load_model("vit"), input_size=(SIDE, SIDE), mean=HALF, std=HALF)
        self.rows = [(i, *pair) for i, (a, b) in enumerate(self.data.classes) for pair in ((a, b), (b, a))]
        self.before = self.network.predict(self.data.images).double()[[i for i, *_ in self.rows]]

    def masks(self, method: str) -> Tensor:
        """Shape (rows, side, side)."""
        maps = by_method(method, self.network, self.data)
        return min_max(torch.stack([upsample(each.float(), (SIDE, SIDE)) for each in maps]))

    def behind(self, masks: Tensor) -> Tensor:
        """Logits behind masks, shape (rows, classes)."""
        with torch.no_grad():
            return masked_logits(self.network, self.data.images[[i for i, *_ in self.rows]], masks).double()


def with_values(order: Tensor, values: Tensor) -> Tensor:
    """The values of one mask in the order of another, for each row."""
    ranks = order.flatten(1).argsort(dim=1, stable=True)
    return torch.empty_like(order.flatten(1)).scatter(1, ranks, values.flatten(1).sort(dim=1).values).view_as(order)


def figures(subject: Subject, masks: Tensor) -> str:
    """AD, AG, AI and the mean of the mask."""
    rows, own = torch.arange(len(masks)), torch.tensor([index for _, index, _ in subject.rows])
    p, o = (logits.softmax(1)[rows, own] for logits in (subject.before, subject.behind(masks)))
    cells = (relative_drop(p, o).mean(), relative_gain(p, o).mean(), (o > p).double().mean())
    return " | ".join([*(f"{100 * cell:.1f}" for cell in cells), f"{masks.mean():.2f}"])


def places(subject: Subject, masks: Tensor) -> str:
    """The mean of the mask on either digit and elsewhere, and the moves of both logits."""
    moved = subject.behind(masks) - subject.before
    found = []
    for row, (image, own, other) in enumerate(subject.rows):
        sample = subject.samples[image]
        here, there = (
            torch.from_numpy(np.asarray(sample.masks[sample.labels.index(each)]) > 0) for each in (own, other)
        )
        light = [masks[row][where].mean().item() for where in (here, there, ~(here | there))]
        found.append([*light, moved[row, own].item(), moved[row, other].item()])
    *light, mine, yours = torch.tensor(found).mean(0).tolist()
    return " | ".join([*(f"{each:.2f}" for each in light), f"{mine:+.2f}", f"{yours:+.2f}"])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="photographs with two digits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    subject = Subject(arguments.pairs)
    masks = {method: subject.masks(method) for method in METHODS}
    print(f"{machine()}\n\n| order of the pixels | grey values | AD | AG | AI | mean |\n|---|---|---|---|---|---|")
    for values in VALUES:
        for method in METHODS:
            print(f"| {method} | {values} | {figures(subject, with_values(masks[method], masks[values]))} |")
    masks["tibav with grad_cam's values"] = with_values(masks["tibav"], masks["grad_cam"])
    print("\n| mask | own digit | other digit | elsewhere | own logit | other's logit |\n|---|---|---|---|---|---|")
    for name, found in masks.items():
        print(f"| {name} | {places(subject, found)} |")


if __name__ == "__main__":
    main()
