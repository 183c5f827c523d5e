"""Train a default model within a time budget: `python -m model_store.digits.train --model cnn`."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from model_store.digits.data import DEFAULT_SIDE, Sample, make_sample
from model_store.digits.models import MODELS, WEIGHTS_FOLDER, load_model, normalise
from model_store.digits.sources import CLASSES
from model_store.digits.vit import DigitsViT


@dataclass(frozen=True)
class Recipe:
    """What differs between the two models: peak learning rate, weight decay, images per step, and the easy start.

    full_clutter: until so many images the photographs fade in: on plain colours digits are learned much sooner.
    patch_hint: weight, at the start, of a loss that asks the patch tokens on a digit for its class; it falls to zero
        over the budget. Without it the class token takes 30,000 images to find where the digits are.
    """

    learning_rate: float
    weight_decay: float
    batch: int
    full_clutter: int
    patch_hint: float


RECIPES = {
    "cnn": Recipe(learning_rate=4e-3, weight_decay=0.02, batch=64, full_clutter=30_000, patch_hint=0.0),
    "vit": Recipe(learning_rate=1.2e-3, weight_decay=0.05, batch=64, full_clutter=10_000, patch_hint=1.0),
}


def continued(recipe: Recipe) -> Recipe:
    """The recipe for going on from trained weights: half the learning rate, photographs at full contrast."""
    return replace(recipe, learning_rate=recipe.learning_rate / 2, full_clutter=1)


GRID = 12  # patches along a side
WARM_UP = 0.03  # share of the budget in which the learning rate rises
EMA_DECAY = 0.998  # the saved weights are a running mean over about the last 500 steps
TWICE_THE_SIDE = 0.15  # share of the images drawn at twice the side and shrunk, as a client's larger image would be


Item = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]


class TrainingImages(IterableDataset[Item]):
    """Endless augmented samples of the training split.

    Each is a (96, 96, 3) uint8 image, (10,) float32 target masses, and (144,) int64 classes of the patches.
    """

    def __init__(self, seed: int, full_clutter: int) -> None:
        self.seed = seed
        self.full_clutter = full_clutter

    def __iter__(self) -> Iterator[Item]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        for made in count():
            side = DEFAULT_SIDE * (2 if rng.random() < TWICE_THE_SIDE else 1)
            clutter = min(1.0, made * (worker.num_workers if worker else 1) / self.full_clutter)
            sample = make_sample(rng, "train", side, augment=True, clutter=clutter)
            yield shrink(sample.image), target_mass(sample), patch_classes(sample)


def shrink(image: NDArray[np.uint8], side: int = DEFAULT_SIDE) -> NDArray[np.uint8]:
    """(H, H, 3) uint8 -> (side, side, 3) uint8, antialiased as an image decoder's resize does it."""
    if image.shape[0] == side:
        return image
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def target_mass(sample: Sample) -> NDArray[np.float32]:
    """(10,) float32 that sums to 1: all on the one digit, or half on each of two."""
    mass = np.zeros(CLASSES, dtype=np.float32)
    mass[list(sample.labels)] = 1.0 / len(sample.labels)
    return mass


def patch_classes(sample: Sample) -> NDArray[np.int64]:
    """(144,) class of the digit that covers at least a quarter of each of the 12x12 patches, row by row; -100 for none.

    -100 is the class that torch's cross entropy leaves out.
    """
    classes = np.full(GRID * GRID, -100)
    for label, mask in zip(sample.labels, sample.masks, strict=True):
        patch = mask.shape[0] // GRID
        covered = mask.reshape(GRID, patch, GRID, patch).mean(axis=(1, 3)).ravel()
        classes[covered >= 0.25] = label
    return classes


def learning_rate_factor(progress: float) -> float:
    """Share of the peak learning rate at `progress` 0..1 of the budget: a linear rise, then a cosine to zero."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1.0 - WARM_UP))))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels only: not for biases, norms or embeddings."""
    decayed = [p for n, p in model.named_parameters() if p.ndim > 1 and n not in ("cls_token", "pos_embed")]
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def train(
    name: str, minutes: float, seed: int, device: torch.device, workers: int, start: Path | None = None
) -> nn.Module:
    """Train the model for `minutes` of wall time and return the running mean of its weights, in eval mode, on the CPU.

    The schedule follows the clock, so a faster machine sees more images; only the order of images follows the seed.

    start: weights to go on from, at half the learning rate; None trains from scratch.
    """
    torch.manual_seed(seed)
    recipe = RECIPES[name] if start is None else continued(RECIPES[name])
    # Channels last and bf16 each help on a CPU with AVX-512 BF16 (2.7 times together) as on a GPU.
    first = fresh_model(name) if start is None else load_model(name, start)
    model = first.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY), use_buffers=True)  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), betas=(0.9, 0.98))
    loader = DataLoader(TrainingImages(seed, recipe.full_clutter), batch_size=recipe.batch, num_workers=workers)
    began, images = time.monotonic(), 0
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
        for step, batch in enumerate(loader):
            progress = (time.monotonic() - began) / (60.0 * minutes)
            if progress >= 1.0:
                break
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * learning_rate_factor(progress)
            pixels, masses, patches = (tensor.to(device) for tensor in batch)
            hint = recipe.patch_hint * (1.0 - progress)
            loss = training_step(model, optimizer, normalise(pixels), masses, patches, hint)
            averaged.update_parameters(model)
            images += len(pixels)
            if step % 20 == 0:
                bar.set_postfix(images=images, loss=f"{loss.item():.3f}")
                bar.update(100 * progress - bar.n)
    trained: nn.Module = averaged.module.cpu().eval()
    return trained


def fresh_model(name: str) -> nn.Module:
    """An untrained model; that of the ViT begins with the trained CNN's first layers as its patch embedding.

    From nothing a ViT with three strided convolutions reached 86 % after 160,000 images; this one reaches
    96.8 % after 64,000.
    """
    model = MODELS[name]()
    if isinstance(model, DigitsViT):
        trained = load_model("cnn").state_dict()
        own = model.patch_embed.state_dict()
        model.patch_embed.load_state_dict({key: trained.get(key, tensor) for key, tensor in own.items()})
    return model


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, masses: Tensor, patches: Tensor, hint: float
) -> Tensor:
    """One step of AdamW on the softmax cross entropy with the (N, 10) target masses; returns that mean loss.

    hint: weight of the added loss on the (N, 144) classes of the patches; not 0 for `DigitsViT` only.
    """
    model.train()
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        if hint and isinstance(model, DigitsViT):
            logits, patch_logits = model.head(model.forward_features(inputs)).float().split([1, GRID * GRID], dim=1)
            loss = nn.functional.cross_entropy(logits[:, 0], masses)
            total = loss + hint * nn.functional.cross_entropy(patch_logits.flatten(0, 1), patches.flatten())
        else:
            loss = total = nn.functional.cross_entropy(model(inputs).float(), masses)
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def main() -> None:
    """Parse the command line, train, save the weights as float32 safetensors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), required=True)
    parser.add_argument("--minutes", type=float, default=20.0, help="wall time to train for (default: 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to go on from, at half the learning rate")
    parser.add_argument("--output", type=Path, help="safetensors file (default: the committed weights)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--threads", type=int, help="threads of a CPU training (default: torch's own)")
    parser.add_argument("--workers", type=int, default=0, help="processes that make images (default: 0, inline)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    output = arguments.output or WEIGHTS_FOLDER / f"digits_{arguments.model}.safetensors"
    model = train(
        arguments.model, arguments.minutes, arguments.seed, torch.device(device), arguments.workers, arguments.start
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, output)
    print(f"saved {output}")


if __name__ == "__main__":
    main()
