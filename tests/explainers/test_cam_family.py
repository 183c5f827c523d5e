"""The CAM family: what each method does that the shared contract does not ask."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, Explanation, Network
from explainers.abilities import head_broadcasts
from explainers.network import IMAGES_AT_ONCE
from tests.explainers import references, references_cam
from tests.explainers.cases import model_of, network_of
from tests.explainers.networks import ChannelsLast, ResidualCnn, ViT, network, pictures, prepare, vgg

ALL = Classes(tuple(range(5)))


def explain(name: str, net: Network, images: Tensor | None = None, **parameters: object) -> list[Explanation]:
    """The explanations of every class of one image, or of the first of several."""
    images = pictures(1, net.input_size) if images is None else images
    return list(METHODS[name](**parameters).explain(net, images, [ALL] * len(images))[0].explanations)  # type: ignore[call-arg]


def assert_same(first: list[Explanation], second: list[Explanation], atol: float = 1e-5) -> None:
    """The maps are equal but for rounding, and not all of them empty."""
    assert not all(item.degenerate for item in first)
    for a, b in zip(first, second, strict=True):
        assert a.degenerate == b.degenerate
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=atol)


def count_batches(module: nn.Module) -> list[int]:
    """A list that grows by the batch size of each call of a module; shadows keep forward hooks."""
    sizes: list[int] = []
    module.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    return sizes


class Concatenating(ResidualCnn):
    """What comes before the last stage is needed again behind it, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.head(torch.cat([x, self.stage(x)], dim=1).mean(dim=(2, 3)) ** 2)


class Remembering(ResidualCnn):
    """Reshapes to the batch size of its input."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(self.stage(torch.relu(self.stem(x))))
        return self.head(pooled.reshape(len(x), -1) ** 2)


def test_grad_cam_equals_xgrad_cam_behind_global_average_pooling() -> None:
    """There the gradient is the same at every place; both are the positive part of CAM."""
    net = network_of("residual")
    grad, xgrad, cam = (explain(name, net) for name in ("grad_cam", "xgrad_cam", "cam"))
    assert_same(grad, xgrad, atol=1e-6)
    for a, b in zip(cam, grad, strict=True):
        positive = (a.map * (a.raw_maximum - a.raw_minimum) + a.raw_minimum).relu()
        np.testing.assert_allclose(b.map, references.min_max(positive.double().numpy()), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e-8, 1e-15])
def test_grad_cam_plus_plus_of_small_gradients(scale: float) -> None:
    """No epsilon drowns them, and their powers don't underflow."""
    model = prepare(vgg())
    with torch.no_grad():
        model[1][3].weight.mul_(scale)  # type: ignore[index, union-attr]
    items = explain("grad_cam_plus_plus", network(model))
    assert not any(item.degenerate for item in items)
    for item in items:
        raw = references_cam.grad_cam_plus_plus(model, pictures(1)[0], "0.5", item.target)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


@pytest.mark.parametrize("name", ["xgrad_cam", "grad_cam_plus_plus", "score_cam", "ablation_cam"])
def test_dead_channels(name: str) -> None:
    """Feature maps that are zero everywhere divide nothing by zero and change nothing."""
    model = prepare(vgg())
    with torch.no_grad():
        model[0][4].weight[:3] = 0  # type: ignore[index, union-attr]
        model[0][4].bias[:3] = -1  # type: ignore[index, union-attr]
    for item in explain(name, network(model)):
        raw = getattr(references_cam, name)(model, pictures(1)[0], "0.5", item.target)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


def test_xgrad_cam_where_activations_cancel() -> None:
    """A feature map whose sum is zero has no weight, although it is not zero."""
    activation = torch.tensor([[[[1.0, -1.0]], [[1.0, 3.0]]]])
    gradient = torch.tensor([[[[5.0, 2.0]], [[1.0, 1.0]]]])
    raw = METHODS["xgrad_cam"].raw_map(activation, gradient)  # type: ignore[attr-defined]
    torch.testing.assert_close(raw, torch.tensor([[[1.0, 3.0]]]))


@pytest.mark.parametrize("layer", ["stem", "stage.0.norm", "stage.0", "stage.1.conv"])
@pytest.mark.parametrize("name", ["layer_cam", "grad_cam_plus_plus", "ablation_cam", "score_cam"])
def test_any_layer(name: str, layer: str) -> None:
    """Early layers, and layers that are written in place afterwards, agree with the definition."""
    for item in explain(name, network_of("residual"), layer=layer)[::2]:
        raw = getattr(references_cam, name)(model_of("residual"), pictures(1)[0], layer, item.target)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


def test_score_cam_runs_once_for_all_constant_channels() -> None:
    """One pass for the activation, and four together: three feature maps, and one for the five constant ones."""
    model = prepare(vgg())
    with torch.no_grad():
        model[0][4].weight[:5] = 0  # type: ignore[index, union-attr]
    sizes = count_batches(model[0][0])  # type: ignore[index]
    net = network(model)
    net.for_many_passes()  # the first time it tries
    sizes.clear()
    items = explain("score_cam", net)
    assert sizes == [1, 4]
    for item in items:
        raw = references_cam.score_cam(model, pictures(1)[0], "0.5", item.target)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


def test_score_cam_does_not_depend_on_how_many_masks_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are for memory only."""
    together = explain("score_cam", network_of("vit"))
    monkeypatch.setitem(IMAGES_AT_ONCE, "cpu", 3)
    assert_same(explain("score_cam", network_of("vit")), together)


def test_ablation_cam_in_closed_form_equals_ablations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the closed form says is what setting each feature map to zero does."""
    net = network(model_of("residual"))
    closed = explain("ablation_cam", net)
    monkeypatch.setattr(net, "linear_head", None)
    measured = explain("ablation_cam", net)
    assert_same(closed, measured)
    for a, b in zip(closed, measured, strict=True):
        assert a.raw_maximum == pytest.approx(b.raw_maximum, rel=1e-4)


def test_ablation_cam_knows_the_pooled_map_by_each_of_its_names() -> None:
    """`stage` returns what `stage.1` returns: the closed form holds for both, and not one block earlier."""
    model = prepare(ResidualCnn())
    sizes = count_batches(model.get_submodule("stem"))
    net = network(model)
    sizes.clear()
    assert_same(explain("ablation_cam", net, layer="stage"), explain("ablation_cam", net, layer="stage.1"))
    assert sizes == [1, 1]
    assert net.linear_head is not None
    assert net.linear_head.names == {"stage", "stage.1", "stage.1.relu"}


@pytest.mark.parametrize(
    ("build", "trunk", "expected"),
    [
        (ResidualCnn, "stem", [1]),  # closed form
        (vgg, "0.0", [1, 1]),  # the trunk runs for the recording and for all ablations together
        (Concatenating, "stem", [1, 6]),  # the whole network runs for each of six feature maps
        (Remembering, "stem", [1, 6]),
    ],
)
def test_ablation_cam_runs_only_what_it_must(build: type[nn.Module], trunk: str, expected: list[int]) -> None:
    """As far as the network allows it, only what follows the layer runs again; the map is right in any case."""
    model = prepare(build())
    sizes = count_batches(model.get_submodule(trunk))
    net = network(model)
    head_broadcasts(net, net.target_layer.path)
    sizes.clear()
    items = explain("ablation_cam", net)
    assert sizes == expected
    for item in items:
        raw = references_cam.ablation_cam(model, pictures(1)[0], net.target_layer.path, item.target)
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


def test_ablation_cam_without_a_score() -> None:
    """A logit of zero divides nothing: the map is marked."""
    model = prepare(ResidualCnn())
    with torch.no_grad():
        model.head.weight[2] = 0
        model.head.bias[2] = 0
    items = explain("ablation_cam", network(model))
    assert [item.degenerate for item in items] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("build", "layer"), [(ChannelsLast, "norm"), (lambda: ViT(registers=2), "blocks.1.norm1"), (vgg, "0.3")]
)
def test_changed_logits(build: type[nn.Module], layer: str) -> None:
    """Nothing changed leaves the logits; a change reaches the grid in every layout and nothing outside of it."""
    net = network(prepare(build()))
    images = pictures(2)
    torch.testing.assert_close(net.changed_logits(images, layer, lambda grid: grid), net.predict(images))
    doubled = net.changed_logits(images, layer, lambda grid: 2 * grid)
    assert not torch.allclose(doubled, net.predict(images), rtol=1e-3)
    assert head_broadcasts(net, layer)
    many = net.changed_logits(images[:1], layer, lambda grid: torch.cat([grid, 2 * grid]))
    torch.testing.assert_close(many, torch.stack([net.predict(images)[0], doubled[0]]), rtol=1e-4, atol=1e-5)


def test_changed_logits_of_a_module_that_is_called_again() -> None:
    """Only the call that the layer stands for is changed."""
    relu = nn.ReLU(inplace=True)
    model = prepare(nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 6, 3), relu, nn.Flatten(), nn.LazyLinear(5)))
    shapes = []

    def edit(grid: Tensor) -> Tensor:
        shapes.append(tuple(grid.shape))
        return grid

    network(model).changed_logits(pictures(1), "1", edit)
    assert shapes == [(1, 6, 28, 28)]


@pytest.mark.parametrize(
    ("noisy", "plain"), [("smooth_grad_cam_plus_plus", "grad_cam_plus_plus"), ("ss_cam", "score_cam")]
)
def test_without_noise_the_smooth_methods_are_the_plain_ones(noisy: str, plain: str) -> None:
    """Averaging equal terms changes nothing."""
    for subject in ("vgg", "vit"):
        assert_same(explain(noisy, network_of(subject), noise=0.0, samples=3), explain(plain, network_of(subject)))


@pytest.mark.parametrize("name", ["smooth_grad_cam_plus_plus", "ss_cam"])
def test_the_seed_decides(name: str) -> None:
    """Another seed gives another map; an image's noise does not depend on its place in the batch."""
    net = network_of("vgg")
    first, second = (explain(name, net, seed=seed) for seed in (0, 1))
    assert not torch.equal(first[0].map, second[0].map)
    swapped = METHODS[name]().explain(net, pictures(2).flip(0), [ALL] * 2)[1]
    assert_same(first, list(swapped.explanations))


def test_fake_cam() -> None:
    """One everywhere but in the corner, at the size of the input."""
    item = explain("fake_cam", network_of("residual"))[0]
    assert item.map.shape == (32, 32)
    assert item.map[0, 0] == 0
    assert item.map.sum() == 32 * 32 - 1
