"""Guided backpropagation and guided Grad-CAM: what the shared contract does not ask."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # as everybody writes it
from torch import Tensor, nn

from explainers import METHODS, Classes, NotApplicableError, UnknownLayerError
from tests.explainers import references, references_guided
from tests.explainers.cases import RECTIFIED, SUBJECTS, model_of, network_of
from tests.explainers.networks import (
    Block,
    ResidualCnn,
    Undifferentiable,
    ViT,
    network,
    perceptron,
    pictures,
    prepare,
)
from tests.explainers.rectified import Rectified, explain

BOTH = pytest.mark.parametrize("name", ["guided_backprop", "guided_grad_cam"])


@pytest.mark.parametrize("layer", ["stem", "stage.0.norm", "stage.0", "stage.1.conv", "stage.0.relu"])
def test_any_layer(layer: str) -> None:
    """Guided Grad-CAM of early layers, and of layers that are written in place afterwards."""
    items = explain("guided_grad_cam", network_of("residual"), layer=layer)
    for item in items:
        raw = references_guided.guided_grad_cam(model_of("residual"), pictures(1)[0], layer, item.target)
        assert item.map.shape == (32, 32)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


def test_not_square() -> None:
    """Height and width of layer and input keep their places."""
    size = (24, 40)
    net = network(prepare(ResidualCnn(), size), size)
    guided, cam, product = (explain(name, net) for name in ("guided_backprop", "grad_cam", "guided_grad_cam"))
    for g, m, item in zip(guided, cam, product, strict=True):
        enlarged = references_guided.enlarge(m.map.numpy(), *size)
        assert item.map.shape == size
        if not item.degenerate:
            raw = (g.map * (g.raw_maximum - g.raw_minimum) + g.raw_minimum).numpy()
            base = m.raw_minimum + enlarged * (m.raw_maximum - m.raw_minimum)
            np.testing.assert_allclose(item.map, references.min_max(raw * base), atol=1e-4)
    assert not all(item.degenerate for item in product)


def test_grad_cam_factor_is_not_guided() -> None:
    """The weights of the feature maps come from the ordinary gradient, in every rank: the order makes no difference."""
    net = network_of("vgg")
    together = explain("guided_grad_cam", net, layer="0.2")
    for item in together:
        method = METHODS["guided_grad_cam"](layer="0.2")  # type: ignore[call-arg]
        alone = method.explain(net, pictures(1), [Classes((item.target,))])[0].explanations[0]
        assert torch.equal(alone.map, item.map)
        raw = references_guided.guided_grad_cam(model_of("vgg"), pictures(1)[0], "0.2", item.target)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


class ReluBlock(Block):
    """A transformer's block with a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp[1] = nn.ReLU()


class ReluViT(ViT):
    """A transformer with ReLUs."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ReluBlock(), ReluBlock())


@BOTH
def test_transformers_with_relu(name: str) -> None:
    """They are explained too, with Grad-CAM on the grid of the patches."""
    net = network(prepare(ReluViT()))
    assert not all(item.degenerate for item in explain(name, net))
    if name == "guided_backprop":
        pairs = zip(explain(name, net), explain("gradient", net), strict=True)
        assert not any(torch.allclose(a.map, b.map, atol=1e-3) for a, b in pairs)


class Aside(ViT):
    """Its only ReLU is on a weight: none leads from the pixels to the scores."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.relu(self.norm.bias[:5])


@BOTH
@pytest.mark.parametrize("build", [ViT, Aside, Undifferentiable, lambda: Rectified(F.leaky_relu)])
def test_networks_without_relu(name: str, build: Callable[[], nn.Module]) -> None:
    """No ReLU between the pixels and the scores: refused at resolving and at explaining."""
    net = network(prepare(build()))
    with pytest.raises(NotApplicableError, match="ReLU"):
        METHODS[name]().resolve(net)
    with pytest.raises(NotApplicableError, match="ReLU"):
        explain(name, net)


def test_the_network_is_asked_once() -> None:
    """What the network was found to be is kept."""
    model = prepare(ResidualCnn())
    calls: list[int] = []
    model.stem.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    net = network(model)
    calls.clear()
    for _ in range(3):
        METHODS["guided_backprop"]().resolve(net)
    assert calls == [1]
    for name in ("guided_backprop", "guided_grad_cam"):
        calls.clear()
        explain(name, net)  # five targets
        assert calls == [1]


def test_guided_grad_cam_needs_a_layer() -> None:
    """Without a spatial map there is only guided backpropagation."""
    net = network(prepare(perceptron()))
    assert not any(item.degenerate for item in explain("guided_backprop", net))
    for attempt in (METHODS["guided_grad_cam"]().resolve, METHODS["guided_grad_cam"]().target_layer):
        with pytest.raises(NotApplicableError, match="spatial map"):
            attempt(net)
    with pytest.raises(UnknownLayerError):
        explain("guided_grad_cam", net, layer="1")


def test_ordinary_passes_of_other_threads_stay_ordinary() -> None:
    """On the same network and on the caller's model, during, between and after guided passes."""
    model, net = model_of("residual"), network_of("residual")
    expected = explain("gradient", net), net.predict(pictures(1)), of_pixels(model), explain("guided_grad_cam", net)
    stop = threading.Event()

    def guide() -> int:
        rounds = 0
        while not stop.is_set():
            for a, b in zip(explain("guided_grad_cam", net), expected[3], strict=True):
                assert torch.equal(a.map, b.map)
            rounds += 1
        return rounds

    def ordinary(_: int) -> None:
        for a, b in zip(explain("gradient", net), expected[0], strict=True):
            assert torch.equal(a.map, b.map)
        assert torch.equal(net.predict(pictures(1)), expected[1])
        assert torch.equal(of_pixels(model), expected[2])

    with ThreadPoolExecutor(6) as pool:
        guides = [pool.submit(guide) for _ in range(2)]
        try:
            list(pool.map(ordinary, range(64)))
        finally:
            stop.set()
        assert all(guide.result() > 0 for guide in guides)


def of_pixels(model: nn.Module) -> Tensor:
    """The ordinary gradient of the caller's own model."""
    pixels = pictures(1).requires_grad_()
    (gradient,) = torch.autograd.grad(model(pixels)[0, 2], pixels)
    return gradient


@pytest.mark.parametrize("subject", RECTIFIED)
def test_guided_differs_from_the_gradient(subject: str) -> None:
    """On each subject, so that agreeing with the definition means something there."""
    guided, ordinary = (explain(name, network_of(subject)) for name in ("guided_backprop", "gradient"))
    assert not all(torch.allclose(a.map, b.map, atol=1e-2) for a, b in zip(guided, ordinary, strict=True))
    assert SUBJECTS.keys() - set(RECTIFIED) == {"vit"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@BOTH
def test_cuda(name: str) -> None:
    """On a GPU, where threads of autograd's own run the backward pass, the maps are the same."""
    model = copy.deepcopy(model_of("vgg")).double()
    pairs = zip(explain(name, network(model, device="cuda")), explain(name, network(model)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-4)
