"""Every ReLU that a network executes is found and guided, however the network calls it; nothing else is."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # as everybody writes it
from torch import Tensor, nn

from explainers import METHODS, Explanation, NotApplicableError
from tests.explainers import references, references_guided
from tests.explainers.networks import ResidualCnn, network, pictures, prepare
from tests.explainers.rectified import RELU6S, RELUS, Activation, Rectified, Steps, explain, weighted

BOTH = pytest.mark.parametrize("name", ["guided_backprop", "guided_grad_cam"])


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


def test_the_callers_forward_hooks_are_part_of_the_network() -> None:
    """A hook that changes an activation, with a ReLU of its own, is guided as the rest is."""
    hooked, plain = weighted(Rectified(lambda x: x)), weighted(Rectified(F.relu))
    for layer in (hooked.stem, hooked.body, hooked.hidden):
        layer.register_forward_hook(lambda _module, _inputs, output: output.relu_())
    for a, b in zip(
        explain("guided_backprop", network(hooked)), explain("guided_backprop", network(plain)), strict=True
    ):
        assert torch.equal(a.map, b.map)


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
