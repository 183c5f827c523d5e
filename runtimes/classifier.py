"""An ONNX file as a network: as much of it as methods ask for, each part run by ONNX Runtime.

The graph is cut at its last feature map. What makes the map is a session; what makes logits of it is torch's, where it
is a chain of common layers (`runtimes.torch_head`), or a second session. Without a feature map all is one session.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from explainers import Activation
from explainers.grid import Size
from explainers.opaque import Opaque
from runtimes.errors import GraphError
from runtimes.fast_path import TOLERANCES
from runtimes.feature_map import convolution_sizes, find_map, waists
from runtimes.onnx_file import OnnxFile, read
from runtimes.session import open_session
from runtimes.torch_head import torch_head

logger = logging.getLogger(__name__)

DYNAMIC = (
    "export it with a dynamic batch, as by dynamic_shapes=({0: Dim('batch')},) or dynamic_axes={'images': {0: 'batch'}}"
)


class Session(Opaque):
    """A graph with one input and one output."""

    def __init__(self, session: Any, convolution_sizes: tuple[Size, ...] = ()) -> None:
        super().__init__(convolution_sizes)
        self._shared = _Shared(session)

    def forward(self, inputs: Tensor) -> Tensor:
        """Any tensor to another one, both float32, on the device of the first."""
        session = self._shared.session
        array = np.ascontiguousarray(inputs.detach().float().cpu().numpy())
        (output,) = session.run(None, {session.get_inputs()[0].name: array})
        return torch.from_numpy(output).to(inputs.device)


class Cut(nn.Module):
    """A graph in two parts. The path of the first one is the name of the tensor that it returns."""

    def __init__(self, tensor: str, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        *folders, name = tensor.split(".")
        place: nn.Module = self
        for folder in folders:
            place = cast(nn.Module, place._modules.setdefault(folder, nn.Module()))
        place._modules[name] = features
        self._paths = tensor, "logits" if tensor.startswith("head") else "head"
        self._modules[self._paths[1]] = head

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images to logits."""
        features, head = map(self.get_submodule, self._paths)
        logits: Tensor = head(features(images))
        return logits


class _Shared:
    """A session that copies of a module have together: it can't be copied, and holds nothing of a run."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self


def load_classifier(
    path: Path,
    size: Size,
    device: torch.device,
    activation: Activation = Activation.SOFTMAX,
    target_layer: str | None = None,
) -> nn.Module:
    """A module from normalised images (batch, 3, height, width) to logits (batch, classes), both float32.

    Args:
        path: of the ONNX file.
        size: (height, width) of the images.
        device: where ONNX Runtime computes; outputs come back to the device of the inputs.
        activation: of the head; where the file ends in one, it is left out and must be the same.
        target_layer: name of the tensor to explain; None: the last feature map, if there is one.

    Raises:
        GraphError: the file can't be read, is no such classifier, or can't be cut at `target_layer`.
        ProviderError: ONNX Runtime does not run on the device.
    """
    file = read(path, size)
    if file.applied not in (None, activation):
        raise GraphError(f"the graph ends in {file.applied}, and the manifest says activation = '{activation}'")
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    whole = Session(open_session(file.part(file.image, file.logits), device))
    expected = _singly(whole, images)
    if file.applied is None and _are_probabilities(expected):
        raise GraphError("the graph returns probabilities, and no Softmax at its end can be left out: export logits")
    if target_layer is not None and target_layer not in waists(file):
        raise GraphError(f"target_layer {target_layer}: the graph has no such tensor that all of the logits depend on")
    tensor = target_layer or find_map(file, expected.shape[1])
    for module in _ways(file, tensor, device):
        if _agrees(module, images, expected):
            return module
    if not _agrees(whole, images, expected):
        raise GraphError(f"the graph takes one image at a time: {DYNAMIC}")
    if target_layer is not None:
        raise GraphError(f"target_layer {target_layer}: the parts of the graph do not compute what the whole does")
    return whole


def _ways(file: OnnxFile, tensor: str | None, device: torch.device) -> Iterator[nn.Module]:
    """The graph cut at a tensor, the more useful way first."""
    if tensor is None:
        return
    try:
        features = Session(open_session(file.part(file.image, tensor), device), convolution_sizes(file))
        head = torch_head(file, tensor)
        if head is not None:
            yield Cut(tensor, features, head.to(device))
        yield Cut(tensor, features, Session(open_session(file.part(tensor, file.logits), device)))
    except GraphError as error:
        logger.info("not cut at %s: %s", tensor, error)


def _singly(whole: nn.Module, images: Tensor) -> Tensor:
    """The logits of images that go through the graph one by one."""
    try:
        logits = torch.cat([whole(image[None]) for image in images])
    except Exception as error:  # ONNX Runtime's own have no common base
        sides = " x ".join(map(str, images.shape[1:]))
        logger.info("the graph fails: %s", error)
        raise GraphError(f"the graph does not run on one image of {sides}: {DYNAMIC}") from None
    if logits.dim() != 2 or len(logits) != len(images):
        raise GraphError("the graph must return logits of shape (batch, classes)")
    if not bool(logits.isfinite().all()):
        raise GraphError("the graph returns a score that is not finite")
    return logits


def _agrees(module: nn.Module, images: Tensor, expected: Tensor) -> bool:
    """Whether it computes these logits of a batch."""
    try:
        logits = module(images)
    except Exception as error:
        logger.debug("a part of the graph fails: %s", error)
        return False
    tolerance = TOLERANCES.get(images.device.type, TOLERANCES["cuda"])[0] * float(expected.abs().max())
    return logits.shape == expected.shape and torch.allclose(logits, expected, rtol=0, atol=tolerance)


def _are_probabilities(logits: Tensor) -> bool:
    sums = logits.sum(dim=1)
    return logits.shape[1] > 1 and bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
