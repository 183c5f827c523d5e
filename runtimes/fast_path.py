"""Predictions, CAM and Grad-CAM by ONNX Runtime. Classes, results and normalised maps come from `explainers`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers import Cam, Classes, GradCam, ImageResult, Method, Network, Targets, TopK
from explainers.class_maps import explain_ranks
from runtimes.errors import GraphError, ParityError
from runtimes.session import open_session
from runtimes.signature import KIND, LAYER, NO_MAP

RUNTIME = "onnxruntime"
# Of the largest logit, and of the range of a map. On a CPU both sums are in float32, in another order; on CUDA torch
# itself computes convolutions in TF32.
TOLERANCES = {"cpu": (1e-4, 1e-3), "cuda": (1e-2, 5e-2)}


@dataclass(frozen=True)
class FastPath:
    """One exported graph in a session. Safe from many threads at once.

    Attributes:
        session: of ONNX Runtime.
        kind: `cam`: serves CAM and Grad-CAM of any number of classes; `grad_cam`: Grad-CAM of one class an image.
        layers: paths of the layer that is explained: modules that return one after the other the same map.
        class_count: number of logits.
    """

    session: Any
    kind: str
    layers: frozenset[str]
    class_count: int

    def predict(self, images: Tensor) -> Tensor:
        """Logits of a batch, as `Network.predict`, on the CPU."""
        (logits,) = self._run(["logits"], images, np.full((len(images), 1), NO_MAP, np.int64))
        return logits

    def serves(self, method: Method | None, targets: Sequence[Targets]) -> bool:
        """Whether the graph answers this: None is a prediction; a method must be resolved."""
        if method is None:
            return True
        if isinstance(method, Cam):
            return self.kind == "cam"
        if not isinstance(method, GradCam) or method.layer not in self.layers:
            return False
        return self.kind == "cam" or all(_count(each, self.class_count) == 1 for each in targets)

    def explain(self, method: Method, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch, as `Method.explain`, in one run.

        Args:
            method: which it `serves`.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Raises:
            InvalidTargetError: a class index is outside the network's.
        """
        wanted = _classes(targets, self.class_count)
        logits, chosen, maps = self._run(None, images, wanted)

        def raw_maps(seeds: Tensor) -> Tensor:
            """Maps of the seeds' classes, those that the graph chose unless two scores are the same."""
            classes = seeds.argmax(dim=2).T
            asked = seeds.any(dim=2).T
            agreed = (classes == chosen[:, : classes.shape[1]]) | ~asked
            found = maps if agreed.all() else self._run(["maps"], images, classes.numpy())[0]
            return self._raw(method, found[:, : classes.shape[1]]).transpose(0, 1)

        return explain_ranks(logits, targets, raw_maps)

    def _raw(self, method: Method, maps: Tensor) -> Tensor:
        if isinstance(method, Cam):
            return maps
        # Of a head that is a mean and a linear layer, the mean gradient is the classifier's row over the cells.
        return maps.relu() / (maps.shape[-2] * maps.shape[-1] if self.kind == "cam" else 1)

    def _run(self, outputs: list[str] | None, images: Tensor, classes: np.ndarray[Any, Any]) -> list[Tensor]:
        feeds = {"images": images.float().cpu().numpy(), "classes": classes}
        return [torch.from_numpy(array) for array in self.session.run(outputs, feeds)]


def load_fast_path(graph: Path, network: Network, tags: Mapping[str, str], threads: int | None = None) -> FastPath:
    """The graph of a network, after it has computed what torch computes.

    Args:
        graph: written by `runtimes.export`.
        network: that it was exported from; says on which device to run.
        tags: with which it was exported.
        threads: of one run on the CPU; None: as many as torch uses now.

    Raises:
        ProviderError: ONNX Runtime does not run on the network's device.
        GraphError: the file is not such a graph, or one of another network.
        ParityError: its numbers are not torch's.
    """
    session = open_session(graph, network.device, threads)
    found = session.get_modelmeta().custom_metadata_map
    if different := sorted(name for name, value in tags.items() if found.get(name) != value):
        raise GraphError(f"{graph.name} was exported from another model ({different[0]} differs): export it again")
    layer = found.get(LAYER, "")
    if found.get(KIND) not in ("cam", "grad_cam") or layer != network.target_layer.path:
        raise GraphError(f"{graph.name} does not explain the layer {network.target_layer.path}: export it again")
    head = network.linear_head
    layers = {layer} | (set(head.names) if head is not None and layer in head.names else set())
    fast = FastPath(session, found[KIND], frozenset(layers), network.class_count)
    _check(fast, network)
    return fast


def _check(fast: FastPath, network: Network) -> None:
    """Compare with torch on noise: a library that computes something else must not answer."""
    logits_tolerance, map_tolerance = TOLERANCES.get(network.device.type, TOLERANCES["cuda"])
    images = torch.rand(2, 3, *network.input_size, generator=torch.Generator().manual_seed(0))
    method = GradCam().resolve(network)
    expected = method.explain(network, images, [TopK(), Classes((0,))])
    classes = [Classes(tuple(item.target for item in result.explanations)) for result in expected]
    for ours, theirs in zip(fast.explain(method, images, classes), expected, strict=True):
        scale = float(theirs.logits.abs().max())
        if not torch.allclose(ours.logits, theirs.logits, rtol=0, atol=logits_tolerance * scale):
            raise ParityError("the graph's logits are not torch's")
        for one, other in zip(ours.explanations, theirs.explanations, strict=True):
            if not torch.allclose(one.map, other.map, rtol=0, atol=map_tolerance):
                raise ParityError("the graph's maps are not torch's")


def _count(target: Targets, class_count: int) -> int:
    return len(target.indices) if isinstance(target, Classes) else min(max(target.k, 1), class_count)


def _classes(targets: Sequence[Targets], class_count: int) -> np.ndarray[Any, Any]:
    """What the graph shall explain, shape (batch, most targets of an image): what no image asked for is class 0."""
    counts = [_count(target, class_count) for target in targets]
    classes = np.zeros((len(targets), max(1, *counts)), np.int64)
    for row, target, count in zip(classes, targets, counts, strict=True):
        row[:count] = target.indices if isinstance(target, Classes) else -1 - np.arange(count)
    return classes
