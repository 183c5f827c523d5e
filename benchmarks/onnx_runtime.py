"""What ONNX Runtime makes of a prediction and its Grad-CAM, beside its own plain forward pass and beside torch.

`python -m benchmarks.onnx_runtime [--networks NAME ...] [--cpu-time] [--output docs/performance.md]`

One plain forward pass by ONNX Runtime, of the bare network exported by itself, is 1. All in one thread. The plain
passes get normalised images; what is ours goes from pixels to finished results: normalisation, classes, maps. The real
networks (see `tests/real.py`) and the default models explain photographs; ResNet-50 has random weights, and noise.
Graphs are exported once and kept in `--graphs`: exporting takes minutes on a slow machine.
"""

import argparse
import shlex
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.grad_cam_cost import MEAN, SIDE, STD, build
from benchmarks.reliability.tables import fill, table
from benchmarks.timing import Comparison, Program, compare, machine
from explainers import GradCam, Network, TopK
from handlers.memory import keep_for_reuse
from model_store.digits.data import samples
from model_store.digits.models import load_model
from runtimes import load_fast_path
from runtimes.export import export
from runtimes.session import open_session, version
from runtimes.trace import traceable
from tests.real_networks import architectures, prepared

RANDOM = "resnet50"
DIGITS = {"digits-cnn": "cnn", "digits-vit": "vit"}
NETWORKS = (*DIGITS, "mobilenet_v2_1.0_224", "squeezenet1_1", "vit_tiny_patch16_224", RANDOM)
DIGITS_SIDE, HALF = 96, (0.5, 0.5, 0.5)
BATCHES = (1, 8)
CPU = torch.device("cpu")
ORT_FORWARD = "ONNX Runtime: forward pass"
BOTH, PREDICTION = "ONNX Runtime: prediction and Grad-CAM", "ONNX Runtime: prediction, same graph"
TORCH, TORCH_BOTH = "torch: forward pass", "torch: prediction and Grad-CAM"
COLUMNS = (BOTH, PREDICTION, TORCH, TORCH_BOTH)


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    Attributes:
        model: takes normalised images.
        network: the same, ready to explain.
        pixels: at least as many images as the largest batch, in [0, 1].
        inputs: the same, normalised.
    """

    model: nn.Module
    network: Network
    pixels: Tensor
    inputs: Tensor


def subject(name: str) -> Subject:
    """A network with its images."""
    statistics: tuple[Sequence[float], Sequence[float]] = HALF, HALF
    if name in DIGITS:
        model = load_model(DIGITS[name])
        network = Network(model, input_size=(DIGITS_SIDE, DIGITS_SIDE), mean=HALF, std=HALF)
        images = [torch.from_numpy(sample.image) for sample in samples("held_out", 12, 0, digits=2)]
        pixels = torch.stack(images).permute(0, 3, 1, 2).float() / 255
    elif name == RANDOM:
        model = build(name, CPU)
        network = Network(model, input_size=(SIDE, SIDE), mean=MEAN, std=STD)
        pixels = torch.rand(max(BATCHES), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        statistics = MEAN, STD
    else:
        model, network, pixels = prepared(name)
        statistics = architectures().MODELS[name][2]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in statistics)
    return Subject(model, network, pixels, (pixels - mean) / std)


def export_plain(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """The bare network as anybody would export it."""
    with warnings.catch_warnings(), traceable():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch")
        program = torch.onnx.export(
            model, (inputs[:2],), dynamic_shapes=({0: batch},), input_names=["inputs"], dynamo=True, verbose=False
        )
    assert program is not None  # noqa: S101  # it is, without a file to write
    program.save(path, external_data=False)


def graphs(name: str, found: Subject, folder: Path) -> tuple[Path, Path]:
    """The plain graph and ours, exported where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, fast = folder / f"{name}.plain.onnx", folder / f"{name}.fast.onnx"
    if not plain.exists():
        export_plain(found.model, found.inputs, plain)
    if not fast.exists():
        export(found.network, fast, {})
    return plain, fast


def programs(found: Subject, plain: Path, fast: Path, batch: int) -> tuple[Program, dict[str, Program]]:
    """The plain forward pass by ONNX Runtime, and what is measured beside it."""
    pixels, inputs = found.pixels[:batch], found.inputs[:batch]
    session = open_session(plain, CPU, threads=1)
    path = load_fast_path(fast, found.network, {}, threads=1)
    method, targets = GradCam().resolve(found.network), [TopK()] * batch
    feeds = {"inputs": inputs.numpy()}

    def forward() -> Tensor:
        with torch.inference_mode():
            return found.model(inputs)  # type: ignore[no-any-return]

    return lambda: session.run(None, feeds), {
        BOTH: lambda: path.explain(method, pixels, targets),
        PREDICTION: lambda: path.predict(pixels),
        TORCH: forward,
        TORCH_BOTH: lambda: method.explain(found.network, pixels, targets),
    }


def difference(found: Subject, fast: Path) -> tuple[float, float]:
    """Largest difference from torch of a probability and of a map's value, over all images."""
    path, method = load_fast_path(fast, found.network, {}, threads=1), GradCam().resolve(found.network)
    targets = [TopK()] * len(found.pixels)
    both = path.explain(method, found.pixels, targets), method.explain(found.network, found.pixels, targets)
    softmax = [torch.stack([result.logits for result in results]).softmax(dim=1) for results in both]
    maps = [torch.stack([result.explanations[0].map for result in results]) for results in both]
    return float((softmax[0] - softmax[1]).abs().max()), float((maps[0] - maps[1]).abs().max())


def report(
    results: Mapping[tuple[str, int], Comparison],
    differences: Mapping[str, tuple[float, float]],
    command: str,
    clock: str,
) -> str:
    """The section of docs/performance.md."""
    rows = [
        [name, batch, f"{1000 * result.baseline_seconds:.1f} ms", *(result.costs[column] for column in COLUMNS)]
        for (name, batch), result in results.items()
    ]
    parity = [[name, f"{probability:.1e}", f"{value:.1e}"] for name, (probability, value) in differences.items()]
    return "\n\n".join(
        [
            f"`{command}`",
            f"{machine()}, onnxruntime {version()}. {clock} time. Median (25th-75th percentile) of paired ratios.",
            table(["network", "batch", ORT_FORWARD, *COLUMNS], rows),
            "Largest difference from torch, over every image of the network:",
            table(["network", "probability", "value of a map"], parity),
        ]
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seconds", type=float, default=20, help="for each network and batch size")
    parser.add_argument("--pairs", type=int, default=7, help="at least so many, whatever the time")
    parser.add_argument("--cpu-time", action="store_true", help="processor time: for a busy machine")
    parser.add_argument("--graphs", type=Path, default=Path("build/onnx_runtime"), help="folder to keep graphs in")
    parser.add_argument("--output", type=Path, help="document with a place for the section")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # both as a worker does
    keep_for_reuse()
    results, differences = {}, {}
    for name in arguments.networks:
        found = subject(name)
        plain, fast = graphs(name, found, arguments.graphs)
        differences[name] = difference(found, fast)
        for batch in BATCHES:
            results[name, batch] = compare(
                *programs(found, plain, fast, batch),
                seconds=arguments.seconds,
                least_pairs=arguments.pairs,
                title=f"{name}, batch {batch}",
                clock=time.process_time if arguments.cpu_time else time.perf_counter,
            )
    command = shlex.join(["python", "-m", "benchmarks.onnx_runtime", *sys.argv[1:]])
    text = report(results, differences, command, "Processor" if arguments.cpu_time else "Wall-clock")
    print(text)
    if arguments.output:
        fill(arguments.output, "onnx_runtime", text)


if __name__ == "__main__":
    main()
