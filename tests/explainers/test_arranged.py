"""Shadows for many passes: fewer operations, the same logits."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from benchmarks.flops import operations
from explainers import Network
from explainers.arranged import in_channels_last
from explainers.shadow import make_shadow
from explainers.vit_modules import ClassTokenBlock, FullBlock, Patches
from tests.explainers.networks import ResidualCnn, ViT, network, pictures, prepare, vgg

CPU = torch.device("cpu")
REPLACEMENTS = (nn.Identity, Patches, FullBlock, ClassTokenBlock)


def test_channels_last_shares_all_but_kernels() -> None:
    """Kernels are copied where their order changes; the logits are the same, and the shadow is untouched."""
    model = prepare(ResidualCnn())
    shadow = make_shadow(model, CPU)
    strides = {name: parameter.stride() for name, parameter in shadow.named_parameters()}
    arranged = in_channels_last(shadow, CPU)
    assert {name: parameter.stride() for name, parameter in shadow.named_parameters()} == strides
    kernels = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    originals = dict(model.named_parameters())
    for name, parameter in arranged.named_parameters():
        reordered = name in kernels and originals[name].shape[2:] != (1, 1)
        assert (parameter.data_ptr() != originals[name].data_ptr()) == reordered
        assert name not in kernels or parameter.is_contiguous(memory_format=torch.channels_last)
        assert not parameter.requires_grad
    images = pictures().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(arranged(images), shadow(images), rtol=1e-5, atol=1e-5)
    assert not any(module.training for module in arranged.modules())


def test_channels_last_leaves_computed_kernels() -> None:
    """A weight that is computed on the way stays what it is."""
    model = prepare(ResidualCnn())
    parametrizations.weight_norm(model.stem)
    shadow = make_shadow(model.eval(), CPU)
    torch.testing.assert_close(in_channels_last(shadow, CPU)(pictures()), shadow(pictures()))


SUBJECTS = {
    "residual": (ResidualCnn, {nn.Identity: 2}),
    "vgg": (vgg, {nn.Identity: 2}),
    "vit": (ViT, {Patches: 1, FullBlock: 1, ClassTokenBlock: 1}),
    "vit with registers": (lambda: ViT(registers=2), {Patches: 1, FullBlock: 1, ClassTokenBlock: 1}),
    "vit without class token": (lambda: ViT(class_token=False), {}),
}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_fewer_operations(subject: str) -> None:
    """What can be left out is, and logits and gradients stay as they are, to the rounding of float64."""
    build, replaced = SUBJECTS[subject]
    net = network(prepare(build()).double())
    many = net.for_many_passes()
    found = Counter(type(module) for module in many._shadow.modules())
    assert {kind: found[kind] for kind in REPLACEMENTS if found[kind]} == replaced
    images = pictures().double()
    torch.testing.assert_close(many.logits(images), net.logits(images), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(gradient_of(many, images), gradient_of(net, images), rtol=1e-10, atol=1e-11)


def test_last_block_costs_nearly_nothing() -> None:
    """One row of it, against all."""
    vit = network(prepare(ViT())).transformer
    assert vit is not None
    full, last = FullBlock(vit.blocks[1]), ClassTokenBlock(vit.blocks[1])
    tokens = torch.rand(2, 65, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(last(tokens), full(tokens)[:, :1])
    assert operations(lambda: last(tokens)) < 0.1 * operations(lambda: full(tokens))


def test_updates_show_in_the_next_arrangement() -> None:
    """Folded weights are of their own; the next time they are made anew."""
    model = prepare(ResidualCnn())
    net, images = network(model), pictures()
    before, expected = net.for_many_passes(), net.predict(images)
    with torch.no_grad():
        model.stage[0].norm.weight.mul_(1.5)  # type: ignore[index, union-attr]
    torch.testing.assert_close(before.predict(images), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net.for_many_passes().predict(images), net.predict(images), rtol=1e-5, atol=1e-5)


class Crossed(ResidualCnn):
    """Two layers that run one after the other and have nothing to do with each other."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.head(self.pool(self.stage[0].conv(x) + self.norm(x)).flatten(1))  # type: ignore[index, union-attr]


class Twice(ResidualCnn):
    """A convolution with a normalisation behind it only the first time."""

    def forward(self, x: Tensor) -> Tensor:
        block = self.stage[0]
        x = block.norm(block.conv(torch.relu(self.stem(x))))  # type: ignore[union-attr, operator]
        return self.head(self.pool(block.conv(x)).flatten(1))  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("build", [Crossed, Twice])
def test_wrong_guesses(build: type[nn.Module]) -> None:
    """Where the order of the modules misleads, the logits say so: nothing but the order of memory changes."""
    net = network(prepare(build()))
    many = net.for_many_passes()
    assert many.memory_format == torch.channels_last
    assert not any(isinstance(module, nn.Identity) for module in many._shadow.modules())
    torch.testing.assert_close(many.predict(pictures()), net.predict(pictures()), rtol=1e-5, atol=1e-5)


def test_hooks_stay() -> None:
    """A hook of the caller on a normalisation is part of what the network computes."""
    model = prepare(ResidualCnn())
    model.stage[1].norm.register_forward_hook(lambda _module, _inputs, output: 2 * output)  # type: ignore[index, union-attr]
    net = network(model)
    many = net.for_many_passes()
    assert any(isinstance(module, nn.Identity) for module in many._shadow.modules())
    torch.testing.assert_close(many.predict(pictures()), net.predict(pictures()), rtol=1e-5, atol=1e-5)


def test_patches_of_an_image_with_a_rest() -> None:
    """What is left at the edges is left out, as by the convolution."""
    convolution = nn.Conv2d(3, 5, 4, stride=4)
    images = pictures(2, (11, 14))
    torch.testing.assert_close(Patches(convolution)(images), convolution(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"stride": 4, "padding": 1}, {"stride": 4, "padding": "valid"}, {"stride": 4, "dilation": 2}],
)
def test_not_patches(options: dict[str, Any]) -> None:
    """Windows that overlap, or reach beyond the image."""
    assert not Patches.can_replace(nn.Conv2d(3, 5, 4, **options))


def gradient_of(net: Network, images: Tensor) -> Tensor:
    """Of one class's logits with respect to the pixels."""
    pixels = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net.logits(pixels)[:, 1].sum(), pixels)
    return gradient
