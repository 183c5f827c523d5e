"""Gradient, integrated gradients and occlusion equal captum's."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, normalise
from tests.explainers.cases import SUBJECTS, model_of, network_of
from tests.explainers.networks import MEAN, STD, pictures

pytestmark = pytest.mark.oracle

CLASSES = (1, 3, 4)


class OfPixels(nn.Module):
    """The model behind its normalisation, as captum knows no pixels in [0, 1]."""

    def __init__(self, model: nn.Module, probabilities: bool = False) -> None:
        super().__init__()
        self.model = model
        self.probabilities = probabilities

    def forward(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        logits = self.model((pixels - mean) / std)
        return logits.softmax(dim=1) if self.probabilities else logits


def gradient(attr: ModuleType, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Captum's Saliency, largest over colour."""
    return attr.Saliency(OfPixels(model)).attribute(images.requires_grad_(), classes).amax(dim=1)


def integrated_gradients(attr: ModuleType, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Captum's, by the midpoint rule from black, summed over colour."""
    method = attr.IntegratedGradients(OfPixels(model))
    return method.attribute(images, target=classes, n_steps=32, method="riemann_middle").sum(dim=1)


def occlusion(attr: ModuleType, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Captum's, of probabilities, with grey squares of 5 pixels, 2 apart; the same for each colour."""
    method = attr.Occlusion(OfPixels(model, probabilities=True))
    shapes = {"sliding_window_shapes": (3, 5, 5), "strides": (3, 2, 2)}
    return method.attribute(images, target=classes, baselines=0.5, **shapes)[:, 0]


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("peer", [gradient, integrated_gradients, occlusion], ids=lambda peer: peer.__name__)
def test_captum(peer: Callable[[ModuleType, nn.Module, Tensor, Tensor], Tensor], subject: str) -> None:
    """Raw values and normalised maps are captum's."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    theirs = peer(attr, model_of(subject), pictures(3), torch.tensor(CLASSES)).detach().float()
    results = METHODS[peer.__name__]().explain(network_of(subject), pictures(3), [Classes((c,)) for c in CLASSES])
    items = [result.explanations[0] for result in results]
    torch.testing.assert_close(torch.stack([item.map for item in items]), normalise(theirs).maps, rtol=0, atol=1e-4)
    for item, raw in zip(items, theirs, strict=True):
        assert item.raw_minimum == pytest.approx(raw.min().item(), rel=1e-3, abs=1e-6)
        assert item.raw_maximum == pytest.approx(raw.max().item(), rel=1e-3, abs=1e-6)
