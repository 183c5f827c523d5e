"""Which networks are recognised as plain vision transformers, and that they are computed right."""

import pytest
import torch
from torch import Tensor, nn

from explainers import Network
from explainers.vit_forward import logits_of, run_blocks
from model_store.digits.vit import DigitsViT
from tests.explainers.networks import Block, ChannelsLast, ResidualCnn, ViT, network, perceptron, pictures, prepare


def test_description() -> None:
    """Blocks, heads, grid and prefix are read off the modules."""
    found = network(prepare(ViT(registers=2))).transformer
    assert found is not None
    assert [block.path for block in found.blocks] == ["blocks.0", "blocks.1"]
    assert (found.prefix, found.height, found.width) == (3, 4, 4)
    assert found.blocks[0].attention.heads == 2
    assert found.blocks[0].attention.qkv.weight.shape == (24, 8)


def test_digits_transformer() -> None:
    """A stem of convolutions with batch normalisation in front of the blocks makes no difference."""
    model = prepare(DigitsViT(), (96, 96))
    net = Network(model, input_size=(96, 96), mean=(0.5,) * 3, std=(0.5,) * 3)
    images = pictures(2, (96, 96))
    assert net.transformer is not None
    assert (net.transformer.prefix, net.transformer.height, net.transformer.width) == (1, 12, 12)
    torch.testing.assert_close(_own_logits(net, images), net.predict(images), rtol=1e-4, atol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["torchvision vit_b_32", "timm vit_tiny_patch16_224", "timm vit_small_r26_s32_224"])
def test_libraries(name: str) -> None:
    """The transformers of torchvision and timm are recognised, a hybrid with a ResNet in front too."""
    from handlers.torchvision_shim import ensure_operators

    ensure_operators()
    library, _, architecture = name.partition(" ")
    if library == "timm":
        timm = pytest.importorskip("timm")
        model = timm.create_model(architecture, num_classes=5)
    else:
        from torchvision.models import get_model

        model = get_model(architecture, weights=None, num_classes=5)
        nn.init.normal_(model.heads.head.weight)
    net = network(model.eval(), (224, 224))
    images = pictures(2, (224, 224))
    assert net.transformer is not None
    torch.testing.assert_close(_own_logits(net, images), net.predict(images), rtol=1e-3, atol=1e-4)


class PostNorm(Block):
    """The same modules in another order."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, x, x, need_weights=False)[0])
        return self.norm2(x + self.mlp(x))


class Scaled(Block):
    """With a weight that the description has no place for."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * (super().forward(x) - x)


class Quick(Block):
    """With an activation that no module shows."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp[1] = nn.Hardswish()


def _with_blocks(kind: type[Block]) -> nn.Module:
    model = ViT()
    model.blocks = nn.Sequential(kind(), kind())
    return model


def _sharing_a_block() -> nn.Module:
    model = ViT()
    model.blocks = nn.Sequential(model.blocks[0], model.blocks[0])
    return model


@pytest.mark.parametrize(
    "model",
    [
        ResidualCnn(),
        perceptron(),
        ChannelsLast(),
        ViT(class_token=False),
        _with_blocks(PostNorm),
        _with_blocks(Scaled),
        _with_blocks(Quick),
        _sharing_a_block(),
    ],
    ids=["CNN", "MLP", "channels last", "no class token", "post-norm", "layer scale", "activation", "shared block"],
)
def test_others_are_refused(model: nn.Module) -> None:
    """What computes something else is no plain vision transformer, also when its modules look like one."""
    assert network(prepare(model)).transformer is None


def test_weights_written_in_place() -> None:
    """A model that is trained on is explained as it is now."""
    model = prepare(ViT())
    net = network(model)
    assert net.transformer is not None
    layer = net.transformer.blocks[0].mlp.fc1
    before = layer.magnitude(torch.float32)
    assert layer.magnitude(torch.float32) is before
    with torch.no_grad():
        model.blocks[0].mlp[0].weight.neg_().mul_(2)
    torch.testing.assert_close(layer.magnitude(torch.float32), 2 * before)
    torch.testing.assert_close(_own_logits(net, pictures()), net.predict(pictures()), rtol=1e-4, atol=1e-5)


def test_tokens_in_double_precision() -> None:
    """From the pixels on every step is in the wanted precision, and the model's weights stay as they are."""
    model = prepare(ViT(registers=2))
    net = network(model)
    single, double = (net.tokens(pictures(), dtype) for dtype in (torch.float32, torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)
    assert not torch.equal(single.double(), double)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def _own_logits(net: Network, images: Tensor) -> Tensor:
    assert net.transformer is not None
    return logits_of(net.transformer, run_blocks(net.transformer, net.tokens(images, torch.float32)))
