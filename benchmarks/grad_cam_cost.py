"""What a Grad-CAM costs, in forward passes.

`python -m benchmarks.grad_cam_cost [--quick] [--cpu-time] [--json FILE] [--output FILE.md]`

One forward pass of the bare network under inference mode is 1. Ours is measured from pixels to finished results:
normalisation, classes, maps. The others get normalised images, fixed classes and their hooks in place beforehand, each
on a module tree of its own. Random weights: they cost what trained ones do.
"""

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Comparison, Program, compare, machine
from explainers import METHODS, Network, TopK
from handlers.torchvision_shim import ensure_operators

# name: the layer that every library explains
NETWORKS = {
    "resnet50": "layer4",
    "vgg16_bn": "features.42",
    "vit_b_16": "encoder.layers.encoder_layer_11.ln_1",
}
SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OURS, OURS_5 = "ours", "ours, 5 targets"
COLUMNS = (OURS, OURS_5, "grad-cam", "captum", "torchcam")

ToGrid = Callable[[Tensor], Tensor]


def build(name: str, device: torch.device) -> nn.Module:
    """A torchvision network with seeded weights, whose activations neither vanish nor grow."""
    ensure_operators()
    from torchvision.models import get_model

    torch.manual_seed(0)
    model: nn.Module = get_model(name, weights=None)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean of what it sees
    if norms:
        with torch.no_grad():
            model.train()(torch.randn(4, 3, 64, 64))
    if name.startswith("vit"):  # made with a head of zeros
        nn.init.normal_(model.get_submodule("heads.head").weight, std=0.02)  # type: ignore[arg-type]
    return model.eval().to(device)


def vit_grid(tokens: Tensor) -> Tensor:
    """Lays out patches behind one class token."""
    side = SIDE // 16
    return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)


def programs(name: str, model: nn.Module, images: Tensor) -> tuple[Program, dict[str, Program]]:
    """The plain forward pass, and every library's Grad-CAM of the same images."""
    layer = NETWORKS[name]
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    inputs = (images - mean) / std
    network = Network(model, input_size=(SIDE, SIDE), mean=MEAN, std=STD, target_layer=layer, device=images.device)
    classes: list[int] = network.predict(images).argmax(dim=1).tolist()

    def forward() -> Tensor:
        with torch.inference_mode():
            return model(inputs)  # type: ignore[no-any-return]

    def ours(targets: int) -> Program:
        method = METHODS["grad_cam"]()
        return lambda: method.explain(network, images, [TopK(targets)] * len(images))

    to_grid = vit_grid if name.startswith("vit") else None
    found: dict[str, Program] = {OURS: ours(1), OURS_5: ours(5)}
    for peer, make in (("grad-cam", _grad_cam), ("captum", _captum), ("torchcam", _torchcam)):
        if peer != "captum" or to_grid is None:  # captum has no Grad-CAM of tokens
            found[peer] = make(_own_tree(model), inputs, layer, classes, to_grid)
    return forward, found


def _own_tree(model: nn.Module) -> nn.Module:
    """New modules around the same weights: hooks that a library leaves behind shall not slow the others."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def _grad_cam(model: nn.Module, inputs: Tensor, layer: str, classes: Sequence[int], to_grid: ToGrid | None) -> Program:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = GradCAM(model=model, target_layers=[model.get_submodule(layer)], reshape_transform=to_grid)
    targets = [ClassifierOutputTarget(index) for index in classes]
    return lambda: cam(inputs, targets)


def _captum(model: nn.Module, inputs: Tensor, layer: str, classes: Sequence[int], _to_grid: ToGrid | None) -> Program:
    from captum.attr import LayerGradCam

    method = LayerGradCam(model, model.get_submodule(layer))
    targets = torch.tensor(classes, device=inputs.device)
    return lambda: method.attribute(inputs, targets, relu_attributions=True)


def _torchcam(model: nn.Module, inputs: Tensor, layer: str, classes: Sequence[int], to_grid: ToGrid | None) -> Program:
    from torchcam.methods import GradCAM

    extractor: Any = GradCAM(model, layer, reshape_transform=to_grid)
    targets = list(classes)
    return lambda: extractor(targets, model(inputs))


def measure(arguments: argparse.Namespace) -> dict[tuple[str, int], Comparison]:
    """Time every network at every batch size."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = {}
    for name in arguments.networks:
        model = build(name, device)
        for batch in arguments.batches:
            images = torch.rand(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
            forward, contenders = programs(name, model, images)
            results[name, batch] = compare(
                forward,
                contenders,
                seconds=arguments.seconds,
                least_pairs=arguments.pairs,
                title=f"{name}, batch {batch}",
                clock=time.process_time if arguments.cpu_time else time.perf_counter,
            )
    return results


def report(results: dict[tuple[str, int], Comparison], command: str, *, cpu_time: bool) -> str:
    """The results as Markdown."""
    lines = [
        "# What a Grad-CAM costs",
        "",
        f"`{command}`",
        "",
        f"{machine()}. {'Processor' if cpu_time else 'Wall-clock'} time.",
        "",
        "In forward passes of the bare network: median (25th-75th percentile) of paired ratios. One target an image,",
        "where not said otherwise. A dash: the library has no Grad-CAM of this network.",
        "",
        "| network | batch | forward pass | " + " | ".join(COLUMNS) + " | pairs |",
        "|---|---|---|" + "---|" * len(COLUMNS) + "---|",
    ]
    for (name, batch), result in results.items():
        cells = [str(result.costs.get(column, "-")) for column in COLUMNS]
        pairs = result.costs[OURS].pairs
        milliseconds = f"{1000 * result.baseline_seconds:.1f} ms"
        lines.append(f"| {name} | {batch} | {milliseconds} | " + " | ".join(cells) + f" | {pairs} |")
    return "\n".join(lines) + "\n"


def as_json(results: dict[tuple[str, int], Comparison]) -> str:
    """The results for programs."""
    rows = [{"network": name, "batch": batch, **dataclasses.asdict(row)} for (name, batch), row in results.items()]
    return json.dumps({"machine": machine(), "results": rows}, indent=2)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ResNet-50 only, a few seconds")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=60, help="for each network and batch size")
    parser.add_argument("--pairs", type=int, default=7, help="at least so many, whatever the time")
    parser.add_argument("--threads", type=int, help="of torch; its own choice when not given")
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread: for a busy machine")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    command = "python -m benchmarks.grad_cam_cost"
    if arguments.quick:
        arguments.networks, arguments.batches, arguments.seconds, arguments.pairs = ["resnet50"], [1], 5, 3
        command += " --quick"
    if arguments.cpu_time:
        if torch.cuda.is_available():
            parser.error("--cpu-time says nothing about a GPU")
        arguments.threads = 1
        command += " --cpu-time"
    elif arguments.threads:
        command += f" --threads {arguments.threads}"
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    results = measure(arguments)
    text = report(results, command, cpu_time=arguments.cpu_time)
    print(text)
    for file, content in ((arguments.output, text), (arguments.json, as_json(results))):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)


if __name__ == "__main__":
    main()
