"""Guided backpropagation and guided Grad-CAM: what the shared contract does not ask."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # as everybody writes it
from torch import Tensor, nn

from explainers import METHODS, Classes, Explanation, Network, NotApplicableError, UnknownLayerError
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

ALL = Classes(tuple(range(5)))
BOTH = pytest.mark.parametrize("name", ["guided_backprop", "guided_grad_cam"])
Activation = Callable[[Tensor], Tensor]

RELUS: dict[str, Activation] = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu in place by name": lambda x: F.relu(input=x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": Tensor.relu,
    "method in place": Tensor.relu_,
    "clamp": lambda x: x.clamp(min=0),
    "clamp in place": lambda x: x.clamp_(0),
    "clip": lambda x: torch.clip(x, 0),
    "clamp_min": lambda x: x.clamp_min(0.0),
    "clamp_min in place": lambda x: x.clamp_min_(0),
    "operation": torch.ops.aten.relu.default,
    "operation in place": torch.ops.aten.relu_.default,
}
RELU6S: dict[str, Activation] = {
    "module": nn.ReLU6(),
    "module in place": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "F.relu6 in place": lambda x: F.relu6(x, inplace=True),
    "F.hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "F.hardtanh in place": lambda x: F.hardtanh(x, 0.0, 6.0, inplace=True),
    "clamp": lambda x: x.clamp(0, 6),
    "clamp in place": lambda x: x.clamp_(0, 6),
    "operation": lambda x: torch.ops.aten.hardtanh.default(x, 0, 6),
}


class Rectified(nn.Module):
    """Two convolutions, and a classifier that sees every cell, with any activation in between."""

    def __init__(self, activation: Activation, *, views: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.body = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.hidden = nn.Linear(6 * 8 * 8, 16)
        self.head = nn.Linear(16, 5)
        self.activation = activation
        self.views = views

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.stem, self.body):
            x = convolution(x)
            # A view on a part of a tensor, written in place, changes that part of it.
            x = self._part_by_part(x) if self.views else self.activation(x)
        return self.head(self.activation(self.hidden(x.flatten(1))))

    def _part_by_part(self, x: Tensor) -> Tensor:
        first = self.activation(x[:, :2])
        return torch.cat([first, self.activation(x[:, 2:].transpose(2, 3)).transpose(2, 3)], dim=1) + 0 * x


class Steps(nn.Sequential):
    """The same network with modules alone."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        stem, body = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, stride=2, padding=1)
        tail = (nn.Flatten(), nn.Linear(6 * 8 * 8, 16), activation(), nn.Linear(16, 5))
        super().__init__(stem, activation(), body, activation(), *tail)


def weighted(model: nn.Module, scale: float = 1.0) -> nn.Module:
    """Seeded weights, the same for `Rectified` and `Steps`, whose scores are spread by `scale`."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(scale * torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
    return model.eval()


def explain(name: str, net: Network, **parameters: object) -> list[Explanation]:
    """The explanations of every class of one image."""
    method = METHODS[name](**parameters)  # type: ignore[call-arg]
    return list(method.explain(net, pictures(1, net.input_size), [ALL])[0].explanations)


def assert_equals_reference(items: list[Explanation], raw_map: Callable[[int], references.Map]) -> None:
    """Maps and largest raw values are those of the reference, and say something."""
    for item in items:
        raw = raw_map(item.target)
        assert not item.degenerate
        np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)
        assert item.raw_maximum == pytest.approx(raw.max(), rel=1e-4)


@pytest.mark.parametrize("views", [False, True], ids=["whole", "views"])
@pytest.mark.parametrize("form", RELUS)
def test_every_form_of_relu(form: str, views: bool) -> None:
    """However a network calls ReLU, also in place on views, the map is that of the definition."""
    steps = weighted(Steps())
    items = explain("guided_backprop", network(weighted(Rectified(RELUS[form], views=views))))
    assert_equals_reference(items, lambda c: references_guided.guided_backprop(steps, pictures(1)[0], "", c))


@pytest.mark.parametrize("views", [False, True], ids=["whole", "views"])
@pytest.mark.parametrize("form", RELU6S)
def test_every_form_of_relu6(form: str, views: bool) -> None:
    """Where the input of a ReLU6 is above 6 nothing comes back either."""
    steps = weighted(Steps(nn.ReLU6), scale=4.0)
    net = network(weighted(Rectified(RELU6S[form], views=views), scale=4.0))
    items = explain("guided_backprop", net)
    assert_equals_reference(items, lambda c: references_guided.guided_backprop(steps, pictures(1)[0], "", c))
    unbounded = explain("guided_backprop", network(weighted(Rectified(F.relu), scale=4.0)))
    assert all(a.raw_maximum != b.raw_maximum for a, b in zip(items, unbounded, strict=True))


@pytest.mark.parametrize("form", RELUS)
def test_nothing_passes_at_zero(form: str) -> None:
    """1[z>0] is 0 at z = 0, also for a clamp, whose own gradient is 1 there."""

    class AtZero(Rectified):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - x.detach())

    model = weighted(AtZero(RELUS[form]))
    with torch.no_grad():
        model.stem.bias.zero_()  # type: ignore[union-attr, operator]
    assert all(item.degenerate and item.raw_maximum == 0 for item in explain("guided_backprop", network(model)))


def test_a_relu_that_is_read_through_another_view() -> None:
    """Written through one view and read as the whole tensor."""

    class Through(Rectified):
        def forward(self, x: Tensor) -> Tensor:
            for convolution in (self.stem, self.body):
                x = convolution(x)
                x.flatten(1)[:, 7:].relu_()
                x.flatten(1)[:, :7].relu_()
            return self.head(torch.relu(self.hidden(x.flatten(1))))

    steps = weighted(Steps())
    items = explain("guided_backprop", network(weighted(Through(F.relu))))
    assert_equals_reference(items, lambda c: references_guided.guided_backprop(steps, pictures(1)[0], "", c))


OTHERS: list[Activation] = [
    F.leaky_relu,
    F.gelu,
    F.hardswish,
    lambda x: x.clamp(min=-1),
    lambda x: x.clamp(0, 1),
    lambda x: F.hardtanh(x, 0, 1),
]


@pytest.mark.parametrize("other", OTHERS)
def test_other_nonlinearities_are_not_guided(other: Activation) -> None:
    """They keep their ordinary gradient beside a ReLU; the one here passes everything: the logits are far above 0."""

    class Positive(Rectified):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(super().forward(x) + 100)

    net = network(weighted(Positive(other)))
    for a, b in zip(explain("guided_backprop", net), explain("gradient", net), strict=True):
        assert not a.degenerate
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("build", [lambda: Rectified(F.relu), lambda: Rectified(RELUS["method in place"], views=True)])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export uses what torch has deprecated
def test_exported_programs(build: Callable[[], nn.Module], name: str) -> None:
    """A torch.export program, with its modules or flat, decomposed or not, is explained as the model itself."""
    model = weighted(build())
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (pictures(2),), dynamic_shapes=({0: batch},))
    decomposed = program.run_decompositions()
    expected = explain(name, network(model), **({"layer": "stem"} if name == "guided_grad_cam" else {}))
    modules = [torch.export.unflatten(program), torch.export.unflatten(decomposed)]
    if name == "guided_backprop":  # flat, it has no layers
        modules += [program.module(), decomposed.module()]
    for module in modules:
        items = explain(name, network(module), **({"layer": "stem"} if name == "guided_grad_cam" else {}))
        for a, b in zip(items, expected, strict=True):
            assert not b.degenerate
            torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-5)


@BOTH
def test_one_module_called_many_times(name: str) -> None:
    """A ReLU module that is used everywhere is as one at each place."""
    shared = nn.ReLU(inplace=True)
    layer = {"layer": "stem"} if name == "guided_grad_cam" else {}
    net, apart = network(weighted(Rectified(shared))), network(weighted(Rectified(F.relu)))
    for a, b in zip(explain(name, net, **layer), explain(name, apart, **layer), strict=True):
        assert torch.equal(a.map, b.map)


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


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at what it warns of
def test_compiled_parts_are_refused() -> None:
    """torch.compile hides ReLUs, so guiding only the others would be wrong."""
    compiled = torch.compile(lambda x: torch.relu(x) + 1, backend="aot_eager")

    class Compiled(ResidualCnn):
        def forward(self, x: Tensor) -> Tensor:
            return compiled(super().forward(x))

    net = network(prepare(Compiled()))
    for name in ("guided_backprop", "guided_grad_cam"):
        with pytest.raises(NotApplicableError, match="compile"):
            METHODS[name]().resolve(net)
        with pytest.raises(NotApplicableError, match="compile"):
            explain(name, net)


def test_the_callers_forward_hooks_are_part_of_the_network() -> None:
    """A hook that changes an activation, with a ReLU of its own, is guided as the rest is."""
    hooked, plain = weighted(Rectified(lambda x: x)), weighted(Rectified(F.relu))
    for layer in (hooked.stem, hooked.body, hooked.hidden):
        layer.register_forward_hook(lambda _module, _inputs, output: output.relu_())
    for a, b in zip(
        explain("guided_backprop", network(hooked)), explain("guided_backprop", network(plain)), strict=True
    ):
        assert torch.equal(a.map, b.map)


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
