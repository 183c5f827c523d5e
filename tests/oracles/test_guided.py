"""Guided backpropagation and guided Grad-CAM equal captum's, where every ReLU is a module."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, normalise
from tests.explainers.cases import SUBJECTS
from tests.explainers.networks import MEAN, STD, ResidualCnn, fully_convolutional, network, pictures, prepare, vgg

pytestmark = pytest.mark.oracle

CLASSES = (1, 3, 4)


class ModulesOnly(ResidualCnn):
    """All that captum can hook: its first ReLU is a module too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(self.stem, nn.ReLU())  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.stage(self.stem(x))).flatten(1))


BUILDS: dict[str, Callable[[], nn.Module]] = {
    "residual": ModulesOnly,
    "vgg": vgg,
    "fully_convolutional": fully_convolutional,
}


def not_in_place(model: nn.Module) -> nn.Module:
    """Captum's hooks and ReLUs in place exclude each other."""
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


def guided_backprop(attr: ModuleType, model: nn.Module, inputs: Tensor, _layer: str) -> Tensor:
    """Captum's, with respect to the normalised image, by colour."""
    return attr.GuidedBackprop(model).attribute(inputs, torch.tensor(CLASSES))


def guided_grad_cam(attr: ModuleType, model: nn.Module, inputs: Tensor, layer: str) -> Tensor:
    """Captum's with bilinear maps."""
    method = attr.GuidedGradCam(model, model.get_submodule(layer))
    return method.attribute(inputs, torch.tensor(CLASSES), interpolate_mode="bilinear")


@pytest.mark.filterwarnings("ignore:Setting backward hooks")  # captum says what it does
@pytest.mark.parametrize("subject", BUILDS)
@pytest.mark.parametrize("peer", [guided_backprop, guided_grad_cam], ids=lambda peer: peer.__name__)
def test_captum(peer: Callable[[ModuleType, nn.Module, Tensor, str], Tensor], subject: str) -> None:
    """Raw values and normalised maps are captum's."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    build, layer = BUILDS[subject], SUBJECTS[subject].layer
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    inputs = ((pictures(3) - mean) / std).requires_grad_()
    attributions = peer(attr, not_in_place(prepare(build())), inputs, layer)
    theirs = (attributions / std).detach().abs().amax(dim=1)
    net = network(prepare(build()), target_layer=layer)
    results = METHODS[peer.__name__]().explain(net, pictures(3), [Classes((c,)) for c in CLASSES])
    items = [result.explanations[0] for result in results]
    assert not all(item.degenerate for item in items)
    torch.testing.assert_close(torch.stack([item.map for item in items]), normalise(theirs).maps, rtol=0, atol=1e-4)
    for item, raw in zip(items, theirs, strict=True):
        assert item.raw_maximum == pytest.approx(raw.max().item(), rel=1e-3, abs=1e-6)
