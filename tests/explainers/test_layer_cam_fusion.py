"""Layer-CAM fused over several layers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from explainers import Classes, Explanation, InvalidParameterError, LayerCam, Network, TopK, UnknownLayerError, validate
from explainers.layer_cam import fuse
from tests.explainers import references
from tests.explainers.cases import SUBJECTS, model_of, network_of
from tests.explainers.networks import ResidualCnn, network, pictures, prepare
from tests.explainers.references_fusion import fused_layer_cam

ALL = Classes(tuple(range(5)))
# The last of each has the largest grid, or all have the same.
LAYERS = {
    "residual": ("stage.1", "stage.0.norm", "stem"),
    "vgg": ("0.6", "0.5", "0.2"),
    "vit": ("blocks.1.norm1", "blocks.0.norm2"),
}


def explain(net: Network, *layers: str) -> list[Explanation]:
    """Every class of two images."""
    method = LayerCam(layer=layers[0], further_layers=layers[1:])
    return [item for result in method.explain(net, pictures(2), [ALL, ALL]) for item in result.explanations]


@pytest.mark.parametrize("subject", LAYERS)
def test_agrees_with_the_definition(subject: str) -> None:
    """Maps and raw ranges are those of the slow reference, on the grid of the largest layer."""
    layers = LAYERS[subject]
    net, images = network_of(subject), pictures(2)
    largest = max((net.layer(layer) for layer in layers), key=lambda layer: layer.height)
    items = explain(net, *layers)
    assert {tuple(item.map.shape) for item in items} == {(largest.height, largest.width)}
    for position, item in enumerate(items):
        image = images[position // 5]
        raw = fused_layer_cam(model_of(subject), image, layers, item.target, SUBJECTS[subject].to_grid)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)
        assert item.raw_maximum == pytest.approx(raw.max(), abs=1e-5)


def test_the_order_of_the_layers_makes_no_difference() -> None:
    """Maps are the same whichever layer is the first; only provenance differs."""
    net = network_of("vgg")
    for a, b in zip(explain(net, "0.6", "0.2", "0.5"), explain(net, "0.2", "0.5", "0.6"), strict=True):
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-6)
    assert LayerCam(layer="0.6", further_layers=("0.2",)).target_layer(net) == "0.6"


def test_without_further_layers_nothing_is_scaled() -> None:
    """The method of one layer is what it was: tanh would bend its map."""
    net = network_of("vgg")
    plain = explain(net, "0.5")
    with_empty_list = LayerCam(layer="0.5", further_layers=()).explain(net, pictures(2), [ALL, ALL])
    recording = net.record(pictures(2), "0.5")
    raw = LayerCam.raw_map(recording.activation, recording.gradient(torch.eye(5)[[1, 1]]))
    assert plain[1].raw_maximum == raw[0].max().item()
    assert torch.equal(plain[1].map, with_empty_list[0].explanations[1].map)


def test_one_pass_for_all_layers() -> None:
    """However many layers and targets there are, the network runs forward once."""
    model = prepare(ResidualCnn())
    sizes: list[int] = []
    model.stem.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    net = network(model)
    sizes.clear()
    explain(net, "stage.1", "stage.0", "stem")
    assert sizes == [2]


def test_batch_equals_single_and_broken_images_stay_alone() -> None:
    """Scaling is per image: neighbours make no difference, not even one that is not finite."""
    net = network_of("vgg")
    method = LayerCam(further_layers=("0.2",))
    images = pictures(3)
    images[1] = torch.nan
    together = method.explain(net, images, [TopK(2), Classes((0,)), TopK(2)])
    assert together[1].explanations[0].degenerate
    for index in (0, 2):
        alone = method.explain(net, images[index : index + 1], [TopK(2)])[0]
        for a, b in zip(together[index].explanations, alone.explanations, strict=True):
            torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-4)


def test_fuse_by_hand() -> None:
    """A layer of zeros adds nothing, each image is scaled by its own maximum, what is not finite stays so."""
    small = torch.tensor([[[4.0]], [[0.0]], [[torch.nan]]])
    large = torch.tensor([[[0.0, 1.0], [2.0, 4.0]], [[0.0, 10.0], [0.0, 5.0]], [[1.0, 1.0], [1.0, 1.0]]])
    fused = fuse([small, large])
    assert torch.allclose(fused[0], torch.full((2, 2), math.tanh(2)))
    expected = torch.tensor([[0.0, math.tanh(2)], [0.0, math.tanh(1)]])
    assert torch.allclose(fused[1], expected)
    assert fused[2].isnan().all()
    assert torch.equal(fuse([torch.zeros(1, 2, 2), torch.zeros(1, 1, 1)]), torch.zeros(1, 2, 2))


@pytest.mark.parametrize("path", ["nowhere", "head", "pool", ""])
def test_an_unknown_further_layer_is_named_as_such(path: str) -> None:
    """At resolving and at explaining the error is about `further_layers`, not about `layer`."""
    method = LayerCam(further_layers=("stem", path))
    net = network_of("residual")
    with pytest.raises(UnknownLayerError) as caught:
        method.resolve(net)
    assert caught.value.parameter == "further_layers"
    with pytest.raises(UnknownLayerError) as caught:
        method.explain(net, pictures(1), [TopK()])
    assert caught.value.parameter == "further_layers"


def test_no_layer_twice() -> None:
    """Neither among the further ones, nor the first again, whether it was named or is the default, by any path."""
    model = prepare(ResidualCnn())
    model.alias = model.stage[1]
    net = network(model)
    for method in (
        LayerCam(layer="stem", further_layers=("stem",)),
        LayerCam(further_layers=(net.target_layer.path,)),
        LayerCam(layer="stage.1", further_layers=("alias",)),
    ):
        validate(method)
        for attempt in (method.resolve, lambda net, method=method: method.explain(net, pictures(1), [TopK()])):
            with pytest.raises(InvalidParameterError, match="must not repeat") as caught:
                attempt(net)
            assert caught.value.parameter == "further_layers"


def test_resolved_methods_are_values() -> None:
    """Paths are filled in; equal methods share a batch."""
    net = network_of("residual")
    resolved = LayerCam(further_layers=("stem",)).resolve(net)
    assert resolved == LayerCam(layer=net.target_layer.path, further_layers=("stem",))
    assert hash(resolved) == hash(resolved.resolve(net))


def test_a_further_layer_that_the_logits_do_not_depend_on() -> None:
    """Its map is zero and adds nothing."""

    class Sideways(ResidualCnn):
        def __init__(self) -> None:
            super().__init__()
            self.aside = nn.Conv2d(3, 4, 3, stride=2, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.aside(x)
            return super().forward(x)

    net = network(prepare(Sideways()))
    alone, fused = explain(net, "stage.1", "stem"), explain(net, "stage.1", "stem", "aside")
    for a, b in zip(alone, fused, strict=True):
        assert not a.degenerate
        assert torch.equal(a.map, b.map)
