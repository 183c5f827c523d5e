"""LRP against zennit 0.5.1, in float64.

Where the two differ, zennit is set to do as we do. By default it gives biases a part of the relevance: `zero_params`
says that they take none. It adds a stabiliser to every denominator: a tiny one here. Its sums share by signed values,
ours do so under the epsilon rule only: for the others it is given the rule that `explainers.lrp_rules` describes. When
it folds batch normalisation it leaves a factor 1 / sqrt(1 + eps) behind: eps is 0 here.
"""

import copy
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainers import Classes, Lrp, Network
from tests.explainers import references
from tests.explainers.networks import MEAN, STD, ResidualBlock, ResidualCnn, network, pictures, prepare, vgg
from tests.oracles.peers import require_torchvision

pytestmark = pytest.mark.oracle

TINY = 1e-12
RULES = ("deep_taylor", "epsilon", "alpha2_beta1", "composite")


def zennit() -> ModuleType:
    """The library; skips the test where it is not installed."""
    require_torchvision()
    library = pytest.importorskip("zennit", reason="zennit is not installed")
    for name in ("attribution", "canonizers", "composites", "core", "layer", "rules", "torchvision", "types"):
        pytest.importorskip(f"zennit.{name}")
    return library


def sum_of_one_sign(library: ModuleType) -> Any:
    """A rule for zennit's Sum: by the terms that have the sign of the sum."""
    return library.core.BasicHook(
        input_modifiers=[lambda x: x, lambda x: x.clamp(min=0), lambda x: x.clamp(max=0)],
        param_modifiers=[library.rules.NoMod(param_keys=[])] * 3,
        output_modifiers=[lambda x: x] * 3,
        gradient_mapper=lambda gradient, outputs: [
            torch.zeros_like(gradient),
            gradient.where(outputs[0] >= 0, 0) / (outputs[1] + TINY),
            gradient.where(outputs[0] < 0, 0) / (outputs[2] - TINY),
        ],
        reducer=lambda inputs, gradients: inputs[1] * gradients[1] + inputs[2] * gradients[2],
    )


def composite(library: ModuleType, rule: str, canonizers: list[Any]) -> Any:
    """Zennit's rules for one of our sets of rules."""
    rules, types = library.rules, library.types
    plus = rules.ZPlus(stabilizer=TINY, zero_params="bias")
    alpha_beta = rules.AlphaBeta(2, 1, stabilizer=TINY, zero_params="bias")
    epsilon = rules.Epsilon(epsilon=1e-6)
    dense, convolution = {
        "deep_taylor": (plus, plus),
        "epsilon": (epsilon, epsilon),
        "alpha2_beta1": (alpha_beta, alpha_beta),
        "composite": (epsilon, plus),
    }[rule]
    unweighted = rules.Norm(stabilizer=1e-6 if rule == "epsilon" else TINY)
    layer_map = [
        (types.Activation, rules.Pass()),
        (library.layer.Sum, unweighted if rule == "epsilon" else sum_of_one_sign(library)),
        (types.AvgPool, unweighted),
        (types.BatchNorm, rules.Pass()),
        (types.Convolution, convolution),
        (nn.Linear, dense),
    ]
    low, high = (references.normalised(torch.full((3, 1, 1), end), MEAN, STD) for end in (0, 1))
    box = rules.ZBox(low, high, stabilizer=TINY, zero_params="bias")
    first_map = [(types.Convolution, box)] if rule in ("deep_taylor", "composite") else []
    return library.composites.SpecialFirstLayerMapComposite(layer_map, first_map, canonizers=canonizers)


def by_zennit(library: ModuleType, model: nn.Module, image: Tensor, target: int, rule: str, canonizer: Any) -> Tensor:
    """The raw map."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    inputs = references.normalised(image, MEAN, STD).requires_grad_()

    def logit(output: Tensor) -> Tensor:
        return output * nn.functional.one_hot(torch.tensor([target]), output.shape[1])

    rules = composite(library, rule, [canonizer])
    with library.attribution.Gradient(model=model, composite=rules) as attributor:
        return attributor(inputs, logit)[1][0].sum(dim=0).detach()


def check(library: ModuleType, model: nn.Module, size: int, rule: str, canonizer: Any) -> None:
    """The raw maps of two classes agree."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0
    image = pictures(1, (size, size))
    net: Network = network(copy.deepcopy(model).double(), (size, size))
    for item in Lrp(rule=rule).explain(net, image, [Classes((1, 3))])[0].explanations:
        expected = by_zennit(library, model, image[0], item.target, rule, canonizer)
        raw = item.map.double() * (item.raw_maximum - item.raw_minimum) + item.raw_minimum
        torch.testing.assert_close(raw, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("rule", RULES)
def test_plain_network(rule: str) -> None:
    """Convolutions, batch normalisation, max pooling and linear layers."""
    library = zennit()
    check(library, prepare(vgg()), 32, rule, library.canonizers.SequentialMergeBatchNorm())


@pytest.mark.parametrize("rule", RULES)
def test_residual_network(rule: str) -> None:
    """With residual sums."""
    library = zennit()

    def forward(block: ResidualBlock, x: Tensor) -> Tensor:
        return block.relu(block.sum(torch.stack([block.norm(block.conv(x)), x], dim=-1)))

    def attributes(_name: str, module: nn.Module) -> dict[str, Any] | None:
        if isinstance(module, ResidualBlock):
            return {"forward": forward.__get__(module), "sum": library.layer.Sum()}
        return (
            {"forward": stem_and_stage.__get__(module), "relu": nn.ReLU()} if isinstance(module, ResidualCnn) else None
        )

    def stem_and_stage(model: ResidualCnn, x: Tensor) -> Tensor:
        return model.head(model.pool(model.stage(model.relu(model.stem(x)))).flatten(1))

    canonizers = library.canonizers
    check(
        library,
        prepare(ResidualCnn()),
        32,
        rule,
        canonizers.CompositeCanonizer(
            [canonizers.SequentialMergeBatchNorm(), canonizers.AttributeCanonizer(attributes)]
        ),
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_torchvision(name: str, rule: str) -> None:
    """Whole architectures; VGG's classifier is cut down, as its linear layers are large and nothing new."""
    library = zennit()
    from torchvision.models import get_model

    model = get_model(name, weights=None, num_classes=5)
    if name == "vgg11_bn":
        model.classifier = nn.Sequential(nn.Linear(512 * 49, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5))
    canonizer = library.torchvision.ResNetCanonizer() if name == "resnet18" else library.torchvision.VGGCanonizer()
    check(library, prepare(model, (64, 64)), 64, rule, canonizer)
