"""The shadow: shares weights, copies structure, changes nothing."""

import weakref
from threading import Lock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from explainers import METHODS, TopK
from explainers.shadow import make_shadow
from tests.explainers.cases import CASES
from tests.explainers.networks import ResidualCnn, ViT, network, pictures, prepare

CPU = torch.device("cpu")


class Tied(nn.Module):
    """One kernel for two convolutions, one module at two paths, a buffer that isn't saved, a tensor that is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.again = self.first
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)
        self.offset = self.first.weight.mean()  # not a leaf: deepcopy alone refuses it
        self.head = nn.Linear(3, 5)
        self.lock = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.second(self.first(x))) * self.scale + self.offset
        return self.head(x.mean(dim=(2, 3)))


def test_shares_storage_without_gradients() -> None:
    """Every parameter and buffer is the same memory, and none of the shadow's collects gradients."""
    model = prepare(ResidualCnn())
    shadow = make_shadow(model, CPU)
    pairs = [(dict(model.named_parameters()), dict(shadow.named_parameters()))]
    pairs += [(dict(model.named_buffers()), dict(shadow.named_buffers()))]
    for originals, copies in pairs:
        assert originals.keys() == copies.keys()
        for name, original in originals.items():
            assert copies[name].data_ptr() == original.data_ptr()
            assert not copies[name].requires_grad
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_mode_of_its_own() -> None:
    """The shadow is in eval mode while the model trains on."""
    model = ResidualCnn().train()
    shadow = make_shadow(model, CPU)
    assert not any(module.training for module in shadow.modules())
    assert all(module.training for module in model.modules())


def test_tied_weights() -> None:
    """Tied parameters and modules stay tied, and a module at two paths can be asked for by either."""
    model = Tied()
    shadow = make_shadow(model, CPU)
    assert shadow.first.weight is shadow.second.weight
    assert shadow.first is shadow.again
    net = network(model)
    images = pictures()
    torch.testing.assert_close(net.predict(images), network(model.double()).predict(images), rtol=1e-4, atol=1e-4)
    assert net.layer("first") == net.layer("again")
    a, b = (METHODS["grad_cam"](layer=path).explain(net, images, [TopK()] * 3) for path in ("first", "again"))  # type: ignore[call-arg]
    assert torch.equal(a[0].explanations[0].map, b[0].explanations[0].map)


def test_updates_of_the_model_show() -> None:
    """Weights that are loaded or trained in place are used from then on."""
    model = prepare(ResidualCnn())
    net = network(model)
    model.load_state_dict(prepare(ResidualCnn(), seed=9).state_dict())
    torch.testing.assert_close(net.predict(pictures()), network(model).predict(pictures()))


def test_parametrised_weights() -> None:
    """Weights that are computed on the way are computed on the way in the shadow too."""
    model = prepare(ResidualCnn())
    parametrizations.weight_norm(model.stem)
    parametrizations.spectral_norm(model.head)
    model.eval()
    expected = network(prepare(ResidualCnn())).predict(pictures())
    net = network(model)
    assert net.predict(pictures()).shape == expected.shape
    shadow = make_shadow(model, CPU)
    assert parametrize.is_parametrized(shadow.stem)
    assert not any(parameter.requires_grad for parameter in shadow.parameters())
    with torch.no_grad():
        torch.testing.assert_close(shadow(pictures()), model(pictures()))


def test_forward_hooks_are_part_of_the_network() -> None:
    """Forward hooks of the caller keep working, without being copied; backward hooks are left out."""
    model = prepare(ResidualCnn())
    held = Lock()  # can't be copied
    model.stem.register_forward_hook(lambda _module, _inputs, output, _held=held: 2 * output)
    model.stage.register_full_backward_hook(lambda *_: (_ for _ in ()).throw(AssertionError("not for us")))
    net = network(model)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    with torch.no_grad():
        expected = model((pictures() - mean) / std)
    torch.testing.assert_close(net.predict(pictures()), expected)
    METHODS["grad_cam"]().explain(net, pictures(), [TopK()] * 3)


def test_weights_made_under_inference_mode() -> None:
    """Weights that autograd could not save are copied, and can be explained."""
    with torch.inference_mode():
        model = ViT()
    assert next(model.parameters()).is_inference()
    METHODS["grad_cam"]().explain(network(model), pictures(), [TopK()] * 3)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export uses what torch has deprecated
def test_exported_program() -> None:
    """An unflattened torch.export program has the layers of the model that was exported, and its answers."""
    model = prepare(ResidualCnn())
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (pictures(2),), dynamic_shapes=({0: batch},))
    original, exported = network(model), network(torch.export.unflatten(program))
    assert exported.target_layer == original.target_layer
    assert exported.linear_head is not None
    for name, method in METHODS.items():
        if "residual" not in CASES[name].subjects:
            continue
        a, b = (method().explain(net, pictures(3), [TopK(2)] * 3)[1] for net in (original, exported))
        torch.testing.assert_close(a.logits, b.logits)
        torch.testing.assert_close(a.explanations[1].map, b.explanations[1].map, rtol=0, atol=1e-5)


def test_network_does_not_keep_the_model_alive() -> None:
    """Only the weights are shared: the caller's modules can go."""
    model = prepare(ResidualCnn())
    gone = weakref.ref(model.stage)
    net = network(model)
    del model
    assert gone() is None
    assert net.predict(pictures()).shape == (3, 5)


def test_updates_show_in_the_next_explanation() -> None:
    """Opti-CAM's own copies of the weights are never older than its explanation."""
    model = prepare(ResidualCnn())
    net, method = network(model), METHODS["opti_cam"](steps=3)  # type: ignore[call-arg]
    before = method.explain(net, pictures(), [TopK()] * 3)
    model.load_state_dict(prepare(ResidualCnn(), seed=9).state_dict())
    after = method.explain(net, pictures(), [TopK()] * 3)
    fresh = method.explain(network(model), pictures(), [TopK()] * 3)
    for old, new, expected in zip(before, after, fresh, strict=True):
        assert torch.equal(new.explanations[0].map, expected.explanations[0].map)
        assert not torch.equal(new.explanations[0].map, old.explanations[0].map)
