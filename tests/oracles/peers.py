"""Grad-CAM by other libraries, all asked in one way.

Each takes a model, normalised inputs, the path of a layer, one class for each image, and for transformers a function
that lays tokens out as a grid. Each answers with one map for each image.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from handlers.torchvision_shim import ensure_operators

ToGrid = Callable[[Tensor], Tensor]
Peer = Callable[[nn.Module, Tensor, str, Sequence[int], ToGrid | None], Tensor]


def require_torchvision() -> None:
    """Make torchvision and what imports it importable; skip the test where it is not installed."""
    try:
        ensure_operators()
    except ImportError:
        pytest.skip("torchvision is not installed (make setup installs what the oracles need)")


def grad_cam(model: nn.Module, inputs: Tensor, layer: str, classes: Sequence[int], to_grid: ToGrid | None) -> Tensor:
    """PyPI grad-cam: the finished map, at the size of the image, in [0, 1]."""
    require_torchvision()
    package = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    with package.GradCAM(model=model, target_layers=[model.get_submodule(layer)], reshape_transform=to_grid) as cam:
        return torch.from_numpy(cam(inputs, [targets.ClassifierOutputTarget(index) for index in classes]))


def captum(model: nn.Module, inputs: Tensor, layer: str, classes: Sequence[int], to_grid: ToGrid | None) -> Tensor:
    """Captum's LayerGradCam: the raw map on the layer's grid. It averages over everything but the second dimension."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    assert to_grid is None, "captum takes the second dimension for the channels: it has no Grad-CAM of tokens"
    method = attr.LayerGradCam(model, model.get_submodule(layer))
    return method.attribute(inputs, torch.tensor(classes), relu_attributions=True)[:, 0].detach()


def torchcam(model: nn.Module, inputs: Tensor, layer: str, classes: Sequence[int], to_grid: ToGrid | None) -> Tensor:
    """torchcam: the raw map on the layer's grid."""
    methods = pytest.importorskip("torchcam.methods", reason="torchcam is not installed")
    with methods.GradCAM(model, layer, reshape_transform=to_grid) as extractor:
        return extractor(list(classes), model(inputs), normalized=False)[0].detach()


PEERS: dict[str, Peer] = {"grad-cam": grad_cam, "captum": captum, "torchcam": torchcam}
