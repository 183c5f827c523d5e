"""Grad-CAM++, XGrad-CAM, Layer-CAM, Score-CAM and Ablation-CAM equal those of PyPI grad-cam where it is right.

Where it departs from the papers, the test undoes that and says so.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, Network, normalise, upsample
from tests.explainers.cases import SUBJECTS
from tests.explainers.networks import pictures, prepare
from tests.oracles.peers import require_torchvision

pytestmark = pytest.mark.oracle

PEERS = {
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "xgrad_cam": "XGradCAM",
    "layer_cam": "LayerCAM",
    "score_cam": "ScoreCAM",
    "ablation_cam": "AblationCAM",
}
GRADIENTS = ("grad_cam_plus_plus", "xgrad_cam", "layer_cam")
CLASSES = (1, 3, 4)


def normalised_pictures() -> Tensor:
    """Inputs as the model sees them. The network under test gets them as they are: its own normalisation is none."""
    return (pictures(3) - 0.5) / 0.25


def vit_grid(tokens: Tensor) -> Tensor:
    """4 x 4 patches behind a class token and two registers."""
    return tokens[:, 3:].reshape(len(tokens), 4, 4, -1).permute(0, 3, 1, 2)


def theirs(name: str, model: nn.Module, layer: str, to_grid: Any = None) -> Tensor:
    """Finished maps of grad-cam, at the size of the image."""
    require_torchvision()
    package = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    kind = getattr(package, PEERS[name])
    with kind(model=model, target_layers=[model.get_submodule(layer)], reshape_transform=to_grid) as cam:
        return torch.from_numpy(cam(normalised_pictures(), [targets.ClassifierOutputTarget(c) for c in CLASSES]))


def ours(name: str, model: nn.Module, layer: str) -> Tensor:
    """Our maps, enlarged."""
    network = Network(model, input_size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    method = METHODS[name](layer=layer)  # type: ignore[call-arg]
    results = method.explain(network, normalised_pictures(), [Classes((index,)) for index in CLASSES])
    return upsample(torch.stack([result.explanations[0].map for result in results]), (32, 32))


def assert_agrees(name: str, model: nn.Module, layer: str, to_grid: Any = None) -> None:
    """Equal after stretching both to [0, 1] again, for the peer does so before it enlarges, with an epsilon."""
    peer, own = theirs(name, model, layer, to_grid), ours(name, model, layer)
    assert (own.flatten(1).amax(dim=1) > 0).any(), "every map is empty: the comparison would say nothing"
    torch.testing.assert_close(normalise(own).maps, normalise(peer).maps, rtol=0, atol=1e-4)


def with_large_gradients(model: nn.Module) -> nn.Module:
    """Scores a thousand times as large, so that grad-cam's epsilon of 1e-6 beside g^2 is nothing."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return 1000 * self.model(x)

    return Scaled().eval()


@pytest.mark.parametrize("subject", ["residual", "vgg", "fully_convolutional"])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str, subject: str) -> None:
    """On layers that nothing overwrites, with gradients large enough for its epsilons."""
    model = with_large_gradients(prepare(SUBJECTS[subject].build()))
    assert_agrees(name, model, f"model.{SUBJECTS[subject].layer}")


@pytest.mark.parametrize("name", ["xgrad_cam", "layer_cam"])
def test_gradients_of_a_transformer(name: str) -> None:
    """On the patch tokens of the last block's norm."""
    model = with_large_gradients(prepare(SUBJECTS["vit"].build()))
    assert_agrees(name, model, f"model.{SUBJECTS['vit'].layer}", vit_grid)


def test_the_epsilon_of_grad_cam_plus_plus() -> None:
    """With small gradients grad-cam's epsilon decides its map: ours stays what the definition says."""
    model = prepare(SUBJECTS["vgg"].build())
    with torch.no_grad():
        model[1][3].weight.mul_(1e-4)  # type: ignore[index, union-attr]
    peer, own = theirs("grad_cam_plus_plus", model, "0.5"), ours("grad_cam_plus_plus", model, "0.5")
    assert (normalise(own).maps - normalise(peer).maps).abs().max() > 1e-2


@pytest.mark.parametrize("subject", ["residual", "vgg", "fully_convolutional"])
def test_score_cam(monkeypatch: pytest.MonkeyPatch, subject: str) -> None:
    """It masks normalised inputs, as this network's pixels are, and enlarges with aligned corners, which we undo."""

    def enlargement(size: tuple[int, int]) -> nn.Module:
        return nn.Upsample(size=size, mode="bilinear", align_corners=False)

    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", enlargement)
    assert_agrees("score_cam", prepare(SUBJECTS[subject].build()), SUBJECTS[subject].layer)


@pytest.mark.parametrize("subject", ["residual", "vgg", "fully_convolutional"])
def test_ablation_cam(subject: str) -> None:
    """Behind a ReLU that is zero somewhere: elsewhere it ablates by a huge negative value instead of zero."""
    assert_agrees("ablation_cam", prepare(SUBJECTS[subject].build()), SUBJECTS[subject].layer)
