"""CAM, and how it tells a network with global average pooling and a linear layer from one that only looks like it."""

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, NotApplicableError
from tests.explainers.cases import network_of
from tests.explainers.networks import ChannelsLast, ResidualCnn, ViT, fully_convolutional, network, pictures, prepare

ALL = Classes(tuple(range(5)))


class SquaredPool(ResidualCnn):
    """Looks like global average pooling and a linear layer, but squares in between."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.stage(torch.relu(self.stem(x)))).flatten(1) ** 2)


class MaxPool(ResidualCnn):
    """Pools by the maximum."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage(torch.relu(self.stem(x))).amax(dim=(2, 3)))


def test_equals_grad_cam_where_both_are_defined() -> None:
    """Behind global average pooling, Grad-CAM is the positive part of CAM over the number of cells."""
    net = network_of("residual")
    images = pictures(3)
    layer = net.linear_head.layer if net.linear_head else ""
    recording = net.record(images, layer)
    cells = recording.activation.shape[2] * recording.activation.shape[3]
    for cam, grad_cam in zip(
        METHODS["cam"]().explain(net, images, [ALL] * 3),
        METHODS["grad_cam"]().explain(net, images, [ALL] * 3),
        strict=True,
    ):
        for a, b in zip(cam.explanations, grad_cam.explanations, strict=True):
            raw = a.map * (a.raw_maximum - a.raw_minimum) + a.raw_minimum
            expected = raw.relu()
            got = b.map * (b.raw_maximum - b.raw_minimum) + b.raw_minimum
            torch.testing.assert_close(got * cells, expected, rtol=1e-4, atol=1e-5)


def test_mean_of_the_map_is_the_score() -> None:
    """The raw map spreads the class score, without its bias, over the image."""
    net = network_of("residual")
    head = net.linear_head
    assert head is not None
    result = METHODS["cam"]().explain(net, pictures(1), [ALL])[0]
    zero = METHODS["cam"]().explain(net, pictures(1), [ALL])[0].logits
    assert torch.equal(result.logits, zero)
    recording = net.record(pictures(1), head.layer)
    bias = recording.logits[0] - head.weight @ recording.activation[0].mean(dim=(1, 2))
    for item in result.explanations:
        raw = item.map * (item.raw_maximum - item.raw_minimum) + item.raw_minimum
        torch.testing.assert_close(raw.mean() + bias[item.target], result.logits[item.target], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [ChannelsLast(), ViT(class_token=False), ViT(class_token=False, registers=2)],
    ids=["swin", "vit", "registers"],
)
def test_pooled_transformers_have_a_cam(model: nn.Module) -> None:
    """The mean of the patch tokens is a global average pooling too."""
    net = network(prepare(model))
    assert net.linear_head is not None
    assert METHODS["cam"]().target_layer(net) == "norm"


@pytest.mark.parametrize("model", [SquaredPool(), MaxPool(), fully_convolutional(), ViT()])
def test_refuses_what_only_looks_like_it(model: nn.Module) -> None:
    """The modules alone don't convince: the scores must be those of the pooled map."""
    with pytest.raises(NotApplicableError, match="global average pooling"):
        METHODS["cam"]().resolve(network(prepare(model)))


def test_ignores_the_networks_target_layer() -> None:
    """CAM explains the pooled map, whatever layer other methods explain by default."""
    net = network(prepare(ResidualCnn()), target_layer="stem")
    assert net.target_layer.path == "stem"
    assert METHODS["cam"]().target_layer(net) == "stage.1"
