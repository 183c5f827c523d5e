"""Grad-CAM: layers that are written in place, transformers of every shape, several targets."""

import numpy as np
import pytest
import torch
from torch import nn

from explainers import METHODS, Classes, Network, NotApplicableError, TopK
from tests.explainers import references
from tests.explainers.cases import SUBJECTS, model_of, network_of
from tests.explainers.networks import MEAN, STD, ChannelsLast, ResidualCnn, ViT, network, pictures, prepare, vgg

ALL = Classes(tuple(range(5)))


def check(model: nn.Module, net: Network, layer: str, to_grid: references.ToGrid = references.channels_first) -> None:
    """Compare every class of two images with the reference."""
    images = pictures(2, net.input_size)
    results = METHODS["grad_cam"](layer=layer).explain(net, images, [ALL] * 2)  # type: ignore[call-arg]
    for image, result in zip(images, results, strict=True):
        for item in result.explanations:
            inputs = references.normalised(image, MEAN, STD)
            raw = references.grad_cam(model, inputs, layer, item.target, to_grid)
            np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


@pytest.mark.parametrize("layer", ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6"])
def test_layers_before_an_inplace_relu(layer: str) -> None:
    """A convolution or norm whose output the next module overwrites keeps its own activation and gradient."""
    check(model_of("vgg"), network_of("vgg"), layer)


@pytest.mark.parametrize("layer", ["stage.0.norm", "stage.1.norm", "stage.1.conv", "stage.1.relu", "stage", "stem"])
def test_layers_before_an_inplace_sum(layer: str) -> None:
    """The norm that a residual sum overwrites keeps its own activation and gradient."""
    check(model_of("residual"), network_of("residual"), layer)


@pytest.mark.parametrize(
    ("options", "input_size", "layer"),
    [
        ({"class_token": True}, (32, 32), "blocks.1.norm1"),
        ({"class_token": True, "registers": 4}, (32, 32), "blocks.1.norm1"),
        ({"class_token": True, "registers": 1}, (24, 40), "blocks.1.norm1"),
        ({"class_token": False}, (32, 32), "norm"),
        ({"class_token": False, "registers": 3}, (40, 24), "norm"),
    ],
)
def test_transformers(options: dict[str, int], input_size: tuple[int, int], layer: str) -> None:
    """Patch tokens become the grid, whatever stands before them and whatever the shape of the image."""
    model = prepare(ViT(input_size, **options), input_size)  # type: ignore[arg-type]
    net = network(model, input_size)
    assert net.target_layer.path == layer
    height, width = input_size[0] // 8, input_size[1] // 8
    assert (net.target_layer.height, net.target_layer.width) == (height, width)
    prefix = int(options["class_token"]) + options.get("registers", 0)
    check(model, net, layer, references.tokens_to_grid(height, width, prefix))


def test_channels_last() -> None:
    """Maps with channels last are explained as any other."""
    model = prepare(ChannelsLast())
    net = network(model)
    assert net.target_layer.path == "norm"
    check(model, net, "norm", lambda tensor: tensor.movedim(-1, 1))


def test_layer_used_several_times_stands_for_its_last_call() -> None:
    """A module that is called again is recorded at its last call."""
    relu = nn.ReLU(inplace=True)
    model = prepare(
        nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 6, 3), relu, nn.Flatten(), nn.LazyLinear(5))
    )
    net = network(model)
    assert net.layer("1").channels == 6
    check(model, net, "1")
    assert net.layer("3") == net.layer("1")


def test_layer_used_again_by_the_classifier_stands_for_its_last_map() -> None:
    """A module whose last call returns no map is recorded at the last call that does."""
    relu = nn.ReLU()
    maps = []
    for first, second in ((relu, relu), (nn.ReLU(), nn.ReLU())):
        layers = (nn.Conv2d(3, 6, 3, stride=2), first, nn.Flatten(), nn.LazyLinear(16), second, nn.Linear(16, 5))
        net = network(prepare(nn.Sequential(*layers)))
        (result,) = METHODS["grad_cam"](layer="1").explain(net, pictures(1), [ALL])  # type: ignore[call-arg]
        maps.append(torch.stack([item.map for item in result.explanations]))
    assert maps[0].any()
    torch.testing.assert_close(maps[0], maps[1])


def test_many_targets_equal_one_at_a_time() -> None:
    """Asking for all classes at once gives the maps of asking for each."""
    net = network_of("vit")
    together = METHODS["grad_cam"]().explain(net, pictures(2), [ALL, TopK(5)])[0]
    for item in together.explanations:
        alone = METHODS["grad_cam"]().explain(net, pictures(2), [Classes((item.target,))] * 2)[0].explanations[0]
        torch.testing.assert_close(item.map, alone.map, rtol=0, atol=1e-5)


def test_trunk_without_gradients() -> None:
    """Where the network itself runs its trunk without gradients, the trunk's last map can be explained and no other."""

    class Detached(ResidualCnn):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                x = self.stage(torch.relu(self.stem(x)))
            return self.head(self.pool(x).flatten(1))

    model = prepare(Detached())
    net = network(model)
    image = pictures(1)
    result = METHODS["grad_cam"]().explain(net, image, [Classes((1,))])[0]
    raw = references.grad_cam(prepare(ResidualCnn()), references.normalised(image[0], MEAN, STD), "stage.1", 1)
    np.testing.assert_allclose(result.explanations[0].map, references.min_max(raw), atol=1e-4)
    with pytest.raises(NotApplicableError, match="differentiable"):
        METHODS["grad_cam"](layer="stem").explain(net, pictures(1), [TopK()])  # type: ignore[call-arg]


def test_double_precision() -> None:
    """A model in float64 is explained in float64, down to the normalisation of the map."""
    model = prepare(vgg()).double()
    images = pictures(1)
    result = METHODS["grad_cam"]().explain(network(model), images, [ALL])[0]
    for item in result.explanations:
        inputs = references.normalised(images[0], MEAN, STD)
        raw = references.grad_cam(model, inputs, SUBJECTS["vgg"].layer, item.target)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=2e-7)


def test_half_precision() -> None:
    """A model in bfloat16 answers in float32."""
    model = prepare(vgg()).bfloat16()
    result = METHODS["grad_cam"]().explain(network(model), pictures(1), [TopK()])[0]
    assert result.logits.dtype == result.explanations[0].map.dtype == torch.float32
    assert result.explanations[0].map.max() == 1
