"""LRP: what it does that the shared contract does not ask."""

import copy

import pytest
import torch
from torch import Tensor, nn

from explainers import Classes, Explanation, InvalidParameterError, Lrp, Network, NotApplicableError, TopK, validate
from explainers.lrp_rules import RULE_SETS
from tests.explainers import references, references_lrp
from tests.explainers.cases import CASES, double_network_of, model_of, network_of
from tests.explainers.networks import ChannelsLast, ViT, network, perceptron, pictures, prepare

ALL = Classes(tuple(range(5)))
SUBJECTS = CASES["lrp"].subjects


def explain(net: Network, images: Tensor, rule: str = "deep_taylor", **parameters: float) -> list[Explanation]:
    """The explanations of every class of the first image."""
    return list(Lrp(rule=rule, **parameters).explain(net, images, [ALL] * len(images))[0].explanations)


def raw(item: Explanation) -> Tensor:
    """The map before it was stretched to [0, 1]."""
    return item.map.double() * (item.raw_maximum - item.raw_minimum) + item.raw_minimum


def perceptron_with_norm() -> nn.Module:
    """Linear layers with batch normalisation between them."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * 8 * 8, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Linear(12, 7),
        nn.ReLU6(),
        nn.Linear(7, 5),
    )


def signed_averages() -> nn.Module:
    """Average pooling of values of both signs, a depthwise convolution, strides, padding and dilation."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.AvgPool2d(3, 2, padding=1),
        nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=4),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, 5),
    )


def bottleneck() -> nn.Module:
    """As in MobileNetV2: no ReLU behind the second convolution, so values of both signs enter the third."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU6(),
        nn.Conv2d(6, 3, 1),
        nn.Conv2d(3, 6, 1),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(54, 5),
    )


MODELS = {"bottleneck": bottleneck, "perceptron with norm": perceptron_with_norm, "signed averages": signed_averages}


@pytest.mark.parametrize("rule", RULE_SETS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_rule_agrees_with_its_definition(rule: str, subject: str) -> None:
    """Every set of rules, on every subject of the contract."""
    image = pictures(1)
    for item in explain(double_network_of(subject), image, rule, epsilon=0.01)[1:3]:
        expected = references_lrp.lrp(model_of(subject), image[0], item.target, rule, epsilon=0.01)
        torch.testing.assert_close(item.map.double().numpy(), references.min_max(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", RULE_SETS)
@pytest.mark.parametrize("name", MODELS)
def test_every_layer_agrees_with_its_definition(rule: str, name: str) -> None:
    """Layers that the contract's networks don't have."""
    model = prepare(MODELS[name](), (8, 8))
    image = pictures(1, (8, 8))
    for item in explain(network(model.double(), (8, 8)), image, rule, epsilon=0.01):
        expected = references_lrp.lrp(model, image[0], item.target, rule, epsilon=0.01)
        torch.testing.assert_close(item.map.double().numpy(), references.min_max(expected), rtol=0, atol=1e-5)


def conservative(model: nn.Module) -> nn.Module:
    """The model as the theory wants it: no bias is positive, so no neuron is active without positive contributions."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, values in model.state_dict().items():
            if name.endswith("bias"):
                values.copy_(-0.1 * values.abs())
            elif name.endswith("running_mean"):
                values.zero_()
    return model


@pytest.mark.parametrize("name", [*SUBJECTS, "perceptron", "perceptron with norm", "signed averages"])
def test_deep_taylor_is_conservative(name: str) -> None:
    """The raw map of a positive logit adds up to it and is nowhere negative.

    Not on the bottleneck: its negative neurons, which no ReLU follows, may have no positive contribution.
    """
    size = (8, 8) if name in MODELS else (32, 32)
    builds = MODELS | {"perceptron": perceptron}
    net = network(conservative(prepare(builds[name](), size) if name in builds else model_of(name)), size)
    result = Lrp().explain(net, pictures(1, size), [ALL])[0]
    positive = [item for item in result.explanations if result.logits[item.target] > 0]
    assert positive
    for item in positive:
        assert raw(item).sum().item() == pytest.approx(result.logits[item.target].item(), rel=1e-5)
        assert item.raw_minimum >= 0


def test_deep_taylor_is_conservative_at_the_ends_of_the_pixels_range() -> None:
    """Also on black, white, and images of nothing but these two: the box rule's terms vanish at its ends."""
    black_and_white = (pictures(1) > 0.5).float()
    net = network(conservative(model_of("residual")))
    for image in (torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32), black_and_white):
        item = Lrp().explain(net, image, [TopK(1)])[0].explanations[0]
        logit = net.predict(image)[0, item.target].item()
        assert logit > 0
        assert raw(item).sum().item() == pytest.approx(logit, rel=1e-4)


def test_relevance_without_a_positive_contribution_is_lost() -> None:
    """A neuron that only its bias makes active has nobody to hand its relevance to; the others still do."""
    model = nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)
    )
    model = prepare(model, (8, 8))
    with torch.no_grad():
        model[0].bias.fill_(10)
        model[2].weight.copy_(torch.tensor([-0.01, 0.01]).view(2, 1, 1, 1))
        model[2].bias.fill_(5)
        model[5].weight.fill_(1)
        model[5].bias.zero_()
    net = network(model, (8, 8))
    image = pictures(1, (8, 8))
    second = model[:4](references.normalised(image[0], (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).float())[0, 1].sum().item()
    assert second < net.predict(image)[0, 0].item() - 1
    assert raw(explain(net, image)[0]).sum().item() == pytest.approx(second, rel=1e-4)


def test_the_box_moves_with_the_pixels() -> None:
    """Padding, cropping and the model's own scaling in front of the first layer change neither map nor sum."""

    class Prepared(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body
            self.register_buffer("shift", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
            self.register_buffer("scale", torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.pad((x - self.shift) / self.scale, (1, 1, 1, 1))
            return self.body(x[:, :, 1:-1, 1:-1])

    body = model_of("vgg")
    inside = Network(Prepared(body), input_size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    for a, b in zip(explain(inside, pictures(1)), explain(network_of("vgg"), pictures(1)), strict=True):
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-5)
        assert a.raw_maximum == pytest.approx(b.raw_maximum, rel=1e-4)


class Written(nn.Module):
    """The same network in two ways of writing: modules, or calls, some of them in place."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.functional = functional
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(12, 5)
        self.relu, self.pool, self.flatten = nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.in_calls(x) if self.functional else self.in_modules(x)

    def in_modules(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.first(x))))
        y = self.relu(self.second(x) + x)
        return self.head(self.flatten(torch.cat([x, y], dim=1).mean(dim=(2, 3))))

    def in_calls(self, x: Tensor) -> Tensor:
        functions = nn.functional
        x = self.first(x)
        x = functions.batch_norm(x, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias)
        x = functions.max_pool2d(x.clamp_(min=0), 3, 2, 1)
        y = functions.conv2d(x, self.second.weight, self.second.bias, padding=1)
        y += x
        functions.relu_(y)
        y = functions.dropout(torch.cat((x, y), 1), training=self.training)
        pooled = functions.adaptive_avg_pool2d(y, 1)[:, :, 0, 0]
        return pooled @ self.head.weight.T + self.head.bias


def written(functional: bool) -> Network:
    """With the same weights either way."""
    return network(prepare(Written(functional)))


@pytest.mark.parametrize("rule", ["deep_taylor", "alpha2_beta1"])
def test_calls_count_as_modules_do(rule: str) -> None:
    """It makes no difference how a network is written."""
    both = zip(explain(written(True), pictures(1), rule), explain(written(False), pictures(1), rule), strict=True)
    for a, b in both:
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-5)
        assert a.raw_maximum == pytest.approx(b.raw_maximum, rel=1e-4)


@pytest.mark.parametrize("rule", RULE_SETS)
def test_exported_programs(rule: str) -> None:
    """An exported program is explained as the model that it was made of."""
    program = torch.export.export(
        model_of("residual"), (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    exported = network(program.module())
    for a, b in zip(
        explain(exported, pictures(1), rule), explain(network_of("residual"), pictures(1), rule), strict=True
    ):
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-5)


def test_normalisation_in_front_of_a_convolution_passes_relevance_on() -> None:
    """As in DenseNet: no layer to become part of, nothing is lost, and no value grows out of bounds."""

    class PreNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
            self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for norm, conv in zip(self.norms, self.convs, strict=True):
                x = x + conv(norm(x).relu())
            return self.head(x.relu().mean(dim=(2, 3)))

    net = network(prepare(PreNorm()))
    logits = net.predict(pictures(1))[0]
    for item in explain(net, pictures(1)):
        assert raw(item).sum().item() == pytest.approx(logits[item.target].item(), rel=1e-3, abs=1e-5)
        assert raw(item).abs().sum().item() == pytest.approx(abs(logits[item.target].item()), rel=1e-3, abs=1e-5)


def test_normalisation_that_is_not_the_only_reader_of_a_layer() -> None:
    """It does not become part of the layer then: the other reader gets the layer's own output."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3)
            self.norm = nn.BatchNorm2d(6)
            self.head = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.head((self.norm(x) + x).relu().mean(dim=(2, 3)))

    net = network(conservative(prepare(Shared())))
    item = Lrp().explain(net, pictures(1), [TopK(1)])[0].explanations[0]
    logit = net.predict(pictures(1))[0, item.target].item()
    assert logit > 0
    assert raw(item).sum().item() == pytest.approx(logit, rel=1e-4)


def test_one_logit_that_is_not_finite_spares_the_others() -> None:
    """Only the class asked for is handed back."""
    model = prepare(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    )
    with torch.no_grad():
        model[4].bias[3] = torch.inf
    good = explain(network(model), pictures(1))
    assert [item.degenerate for item in good][3]
    assert not all(item.degenerate for item in good)


def test_half_precision() -> None:
    """A network in bfloat16 is recorded as it is, and its relevance computed in float32."""
    model = prepare(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    )
    result = Lrp().explain(network(conservative(model).bfloat16()), pictures(1), [TopK(1)])[0]
    (item,) = result.explanations
    assert raw(item).sum().item() == pytest.approx(result.logits[item.target].item(), rel=1e-3) != 0


@pytest.mark.parametrize(
    ("build", "named"),
    [(ViT, "(softmax|attention|layer_norm).*; take tibav"), (ChannelsLast, "native_layer_norm$")],
)
def test_networks_without_a_rule_are_told_what_is_missing(build: type[nn.Module], named: str) -> None:
    """The message names the operation and, of a plain vision transformer, the method that works on it."""
    net = network(prepare(build()))
    with pytest.raises(NotApplicableError, match=f"no rule for .*{named}"):
        Lrp().resolve(net)


class Stem(nn.Module):
    """A convolution, then whatever a test needs, then pooling and a linear layer."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4)
        self.middle = middle
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.stem(x)).mean(dim=(2, 3)))


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[operator]


@pytest.mark.parametrize(
    "middle",
    [
        nn.SiLU(),
        nn.Sigmoid(),
        nn.Hardtanh(-1, 1),
        nn.ConvTranspose2d(4, 4, 2),
        nn.GroupNorm(2, 4),
        nn.BatchNorm2d(4, track_running_stats=False),
        Apply(lambda x: x * x),
        Apply(lambda x: x - x.relu()),
        Apply(lambda x: 1 / (x.abs() + 1)),
        Apply(lambda x: x / x.sum(dim=1, keepdim=True)),
        Apply(lambda x: nn.functional.pad(x, (1, 1), value=1.0)),
        Apply(lambda x: torch.add(x, x.relu(), alpha=2)),
    ],
    ids=str,
)
def test_operations_without_a_rule(middle: nn.Module) -> None:
    """What looks like an operation with a rule but isn't one is refused, and so is what doesn't."""
    with pytest.raises(NotApplicableError, match="no rule for"):
        Lrp().resolve(network(prepare(Stem(middle))))


def test_what_does_not_lead_to_the_logits_needs_no_rule() -> None:
    """A branch that looks at the image and adds nothing to the score is of no interest."""
    aside = Apply(lambda x: x.relu() if x.sigmoid().mean() < 2 else x)
    assert Lrp().resolve(network(prepare(Stem(aside)))) == Lrp()


def test_logits_that_ignore_the_image() -> None:
    """Nothing can be handed back to pixels that were not asked."""

    class Ignorant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = nn.Parameter(torch.rand(5))

        def forward(self, x: Tensor) -> Tensor:
            return self.scores.expand(len(x), 5) + 0

    with pytest.raises(NotApplicableError, match="don't depend on the image"):
        Lrp().explain(network(prepare(Ignorant())), pictures(1), [TopK()])


def test_another_way_for_these_images() -> None:
    """A network that takes an operation without a rule only for some images is refused for these."""
    fork = network(prepare(Stem(Apply(lambda x: x.sigmoid() if len(x) == 4 else x.relu()))))
    assert len(Lrp().explain(fork, pictures(3), [TopK()] * 3)) == 3
    with pytest.raises(NotApplicableError, match="sigmoid"):
        Lrp().explain(fork, pictures(4), [TopK()] * 4)


def test_epsilon_matters_and_has_bounds() -> None:
    """Only to the rules that have it; 0 is allowed and divides by no zero."""
    net = network_of("vgg")
    for rule, matters in (("epsilon", True), ("composite", True), ("deep_taylor", False), ("alpha2_beta1", False)):
        small, large = (explain(net, pictures(1), rule, epsilon=value)[0] for value in (0, 10))
        assert torch.equal(small.map, large.map) != matters
    for wrong in (-1e-9, 11):
        with pytest.raises(InvalidParameterError, match="epsilon must be between"):
            validate(Lrp(epsilon=wrong))
    with pytest.raises(InvalidParameterError, match="rule must be one of"):
        validate(Lrp(rule="gamma"))
