"""A part of a network that torch does not compute: what goes on without a look inside, and what is refused."""

import pytest
import torch
from torch import Tensor, nn

from explainers import Gradient, GuidedBackprop, LayerCam, Lrp, Network, NotApplicableError, OptiCam, ScoreCam, TopK
from explainers.grad_cam import GradCam
from explainers.opaque import Opaque
from tests.explainers.networks import network, pictures

SIZES = ((16, 16), (8, 8))


class Trunk(Opaque):
    """Convolutions behind NumPy, where neither operations nor gradients are seen."""

    def __init__(self) -> None:
        super().__init__(SIZES)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._hidden = [nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU()]

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            outputs = nn.Sequential(*self._hidden)(torch.from_numpy(inputs.detach().numpy().copy()))
        return torch.from_numpy(outputs.numpy().copy())


@pytest.fixture(scope="module")
def opaque() -> Network:
    """A trunk that can't be seen into, and a head that can."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(nn.Sequential(Trunk(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)))


def test_the_map_is_found(opaque: Network) -> None:
    """By what the module says of its convolutions; the linear head by comparing logits."""
    layer = opaque.target_layer
    assert (layer.path, layer.channels, layer.height, layer.width) == ("0", 6, 8, 8)
    assert opaque.linear_head is not None


@pytest.mark.parametrize("method", [ScoreCam(), GradCam(), LayerCam()], ids=lambda method: method.name)
def test_what_needs_no_gradient_before_the_map(opaque: Network, method: ScoreCam | GradCam | LayerCam) -> None:
    (result,) = method.resolve(opaque).explain(opaque, pictures(1), [TopK()])
    assert result.explanations[0].map.shape == (8, 8)


@pytest.mark.parametrize("method", [Gradient(), OptiCam(), Lrp(), GuidedBackprop()], ids=lambda method: method.name)
def test_what_is_refused(opaque: Network, method: Gradient | OptiCam | Lrp | GuidedBackprop) -> None:
    with pytest.raises(NotApplicableError, match=r"not computed by torch|differentiable way"):
        method.resolve(opaque)
