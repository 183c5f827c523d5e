"""Grad-CAM on real networks and photographs equals that of the other libraries."""

import numpy as np
import pytest
from torch import Tensor

from explainers import METHODS, TopK
from tests.explainers import references
from tests.oracles.comparison import assert_agrees
from tests.real_networks import prepared

pytestmark = [pytest.mark.oracle, pytest.mark.real]

# name: the layer that is expected, and the peers that can explain it
NETWORKS = {
    "mobilenet_v2_1.0_224": ("features.18.1", ("grad-cam", "captum", "torchcam")),
    "squeezenet1_1": ("features.12", ("grad-cam", "captum", "torchcam")),
    "vit_tiny_patch16_224": ("blocks.11.norm1", ("grad-cam", "torchcam")),
}


def vit_grid(tokens: Tensor) -> Tensor:
    """14 x 14 patches behind one class token."""
    return tokens[:, 1:].reshape(len(tokens), 14, 14, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("name", "peer"), [(name, peer) for name, (_, peers) in NETWORKS.items() for peer in peers])
def test_photographs(name: str, peer: str) -> None:
    """For its top class, every photograph gets the map of the peer."""
    model, network, images = prepared(name)
    layer = NETWORKS[name][0]
    assert network.target_layer.path == layer
    for batch in images.split(8):
        classes = network.predict(batch).argmax(dim=1).tolist()
        assert_agrees(peer, model, network, batch, layer, classes, vit_grid if "vit" in name else None)


def test_cam_is_grad_cam_on_mobilenet() -> None:
    """On photographs too, the positive part of CAM is Grad-CAM behind global average pooling."""
    _, network, images = prepared("mobilenet_v2_1.0_224")
    targets = [TopK(3)] * len(images)
    cams, grad_cams = (METHODS[name]().explain(network, images, targets) for name in ("cam", "grad_cam"))
    for cam, grad_cam in zip(cams, grad_cams, strict=True):
        for a, b in zip(cam.explanations, grad_cam.explanations, strict=True):
            positive = (a.map * (a.raw_maximum - a.raw_minimum) + a.raw_minimum).relu()
            np.testing.assert_allclose(b.map, references.min_max(positive.double().numpy()), atol=1e-5)
