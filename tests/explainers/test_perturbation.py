"""RISE, LIME and KernelSHAP: what each does that the shared contract does not ask."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from explainers import METHODS, Classes, Explanation, InvalidParameterError, Network, Stepwise, TopK, validate
from explainers.kernel_shap import KernelShap, shapley_kernel
from explainers.lime import Lime
from explainers.random_masks import RandomMasks
from explainers.rise import Rise
from explainers.superpixels import BASELINES, Superpixels, segment
from tests.explainers import references_perturbation as references
from tests.explainers.cases import model_of, network_of
from tests.explainers.networks import network, perceptron, pictures, prepare
from tests.explainers.test_contract import assert_close

ALL = Classes(tuple(range(5)))
OVER_SUPERPIXELS = (Lime, KernelShap)
each_over_superpixels = pytest.mark.parametrize("kind", OVER_SUPERPIXELS)


def explain(method: Rise | Lime | KernelShap, net: Network) -> list[Explanation]:
    """The explanations of every class of one image."""
    return list(method.explain(net, pictures(1, net.input_size), [ALL])[0].explanations)


def raw(item: Explanation) -> Tensor:
    """The map before it was stretched to [0, 1]."""
    return item.map * (item.raw_maximum - item.raw_minimum) + item.raw_minimum


def values_of(item: Explanation, labels: Tensor) -> list[float]:
    """The raw value of each superpixel, which all of its pixels have."""
    pieces = [raw(item)[labels == label] for label in range(int(labels.max()) + 1)]
    assert all((piece == piece[0]).all() for piece in pieces)
    return [float(piece[0]) for piece in pieces]


class Patch(nn.Module):
    """Only looks at a square of 8 pixels: the second class is there where it is bright."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, :, 8:16, 16:24].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(bright), bright], dim=1)


@pytest.mark.parametrize("name", ["rise", "lime", "kernel_shap"])
def test_networks_without_a_layer(name: str) -> None:
    """A network without any spatial map is explained too, in its own size."""
    for size in ((32, 32), (20, 44)):
        net = network(prepare(perceptron(size=size), size), size)
        assert all(item.map.shape == size for item in explain(METHODS[name](samples=40), net))  # type: ignore[call-arg, arg-type]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Rise(samples=70), 1 + 70),
        (Lime(samples=70, segments=12), 1 + 70),
        (KernelShap(samples=70, segments=12), 3 + 70),
        (KernelShap(samples=2000, segments=4), 1 + 2**3),
    ],
)
def test_targets_share_the_passes(method: Rise | Lime | KernelShap, expected: int) -> None:
    """Five targets cost as many forward passes as the documentation says for one."""
    model = prepare(model_of("residual").__class__())
    calls: list[int] = []
    model.stem.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    net = network(model)
    net.for_many_passes()  # the first time it tries
    calls.clear()
    explain(method, net)
    assert sum(calls) == expected
    assert int(segment(pictures(1)[0], 4).max()) + 1 == 3  # what the last row is about


@pytest.mark.parametrize("method", [Rise(samples=40), Lime(samples=40), KernelShap(samples=40)])
def test_another_seed_is_another_map(method: Rise | Lime | KernelShap) -> None:
    """The seed changes what is drawn; global random state does not."""
    net = network_of("vgg")
    first = explain(method, net)[0].map
    torch.manual_seed(123)
    assert torch.equal(explain(method, net)[0].map, first)
    assert not torch.equal(explain(dataclasses.replace(method, seed=1), net)[0].map, first)


@pytest.mark.parametrize("method", [Rise(samples=400), Lime(baseline="black"), KernelShap(baseline="black")])
def test_finds_what_the_network_looks_at(method: Rise | Lime | KernelShap) -> None:
    """The map is highest where the only evidence is, and lowest there for the other class."""
    net = Network(Patch(), input_size=(32, 32), mean=(0, 0, 0), std=(0.2,) * 3)
    against, evidence = method.explain(net, pictures(1), [Classes((0, 1))])[0].explanations
    for item, extreme in ((evidence, item_position(evidence.map)), (against, item_position(-against.map))):
        assert not item.degenerate
        assert 6 <= extreme[0] < 18
        assert 14 <= extreme[1] < 26


def item_position(saliency: Tensor) -> tuple[int, int]:
    """Row and column of the middle of the highest pixels."""
    rows, columns = (saliency == saliency.max()).nonzero().double().mean(dim=0).tolist()
    return round(rows), round(columns)


# RISE


def test_masks() -> None:
    """Masks are smooth, in [0, 1], `keep` on average at every pixel, and the same in whatever parts they are made."""
    masks = RandomMasks.draw(4000, 5, 0.3, seed=2, size=(20, 44))
    like = torch.zeros(())
    made = masks.make(0, 4000, like)
    assert made.shape == (4000, 20, 44)
    assert (made.min(), made.max()) == (0, 1)
    torch.testing.assert_close(made.mean(dim=0), torch.full((20, 44), 0.3), rtol=0, atol=0.04)
    assert torch.equal(masks.make(7, 12, like), made[7:12])
    steps = torch.cat([made.diff(dim=1).abs().flatten(), made.diff(dim=2).abs().flatten()])
    assert steps.max() <= 1 / 4 + 1e-6  # a cell is 4 pixels high and 9 wide
    expected = references.rise_masks(3, 5, 0.3, 2, 20, 44)
    few = RandomMasks.draw(3, 5, 0.3, seed=2, size=(20, 44)).make(0, 3, like)
    np.testing.assert_allclose(few, np.stack(expected), atol=1e-6)


def test_rise_divides_by_the_expectation() -> None:
    """As in the paper, and not by the mean of the masks at each pixel."""
    net = network_of("residual")
    for keep in (0.2, 0.8):
        masks = references.rise_masks(40, 3, keep, 5, 32, 32)
        seen = torch.stack([pictures(1)[0] * torch.from_numpy(mask).float() for mask in masks])
        probabilities = net.predict(seen).softmax(dim=1).double()
        for item in explain(Rise(samples=40, cells=3, keep=keep, seed=5), net):
            expected = sum(p * mask for p, mask in zip(probabilities[:, item.target].tolist(), masks, strict=True))
            np.testing.assert_allclose(raw(item), expected / (40 * keep), atol=1e-5)


def test_rise_stops_with_the_masks_that_there_are() -> None:
    """After one pass the map is that of its masks."""
    net = network_of("residual")
    stopped = Rise(samples=100).explain(net, pictures(1), [ALL], watch=StopAtOnce())[0].explanations
    masks = references.rise_masks(100, 7, 0.5, 0, 32, 32)[: net.images_at_once]
    seen = torch.stack([pictures(1)[0] * torch.from_numpy(mask).float() for mask in masks])
    probabilities = net.predict(seen).softmax(dim=1).double()
    for item in stopped:
        expected = sum(p * mask for p, mask in zip(probabilities[:, item.target].tolist(), masks, strict=True))
        np.testing.assert_allclose(raw(item), expected / (net.images_at_once * 0.5), atol=1e-5)


class StopAtOnce:
    """A watch that is content with the first step."""

    def step(self, _done: int, _total: int, _objective: float) -> bool:
        return True


# Superpixels


def test_superpixels_divide_the_image() -> None:
    """Every pixel has a piece, no piece is empty, each hangs together, and there are about as many as asked for."""
    for image in (*pictures(2), torch.full((3, 32, 32), 0.5), torch.full((3, 32, 32), torch.nan)):
        labels = segment(image, 16)
        assert labels.shape == (32, 32)
        assert torch.equal(labels.unique(), torch.arange(int(labels.max()) + 1))
        assert 8 <= labels.max() < 24
        assert torch.equal(segment(image, 16), labels)


def test_what_stands_in_hidden_superpixels() -> None:
    """The piece's own mean colour, grey or black; the others stay to the bit."""
    image = pictures(1)[0]
    for baseline in BASELINES:
        picture = Superpixels.of(image, 9, baseline)
        coalition = torch.arange(picture.count) % 2 == 0
        shown, everything = picture.show(torch.stack([coalition, torch.ones_like(coalition)]))
        assert torch.equal(everything, image)
        for label in range(picture.count):
            piece = picture.labels == label
            if coalition[label]:
                assert torch.equal(shown[:, piece], image[:, piece])
                continue
            mean = image[:, piece].mean(dim=1)
            expected = {"superpixel_mean": mean, "grey": torch.full((3,), 0.5), "black": torch.zeros(3)}[baseline]
            torch.testing.assert_close(shown[:, piece], expected[:, None].expand(3, int(piece.sum())))
    with pytest.raises(InvalidParameterError, match="grey, black, superpixel_mean"):
        validate(Lime(baseline="white"))


@each_over_superpixels
def test_a_single_superpixel(kind: type[Lime | KernelShap], monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in one piece has a constant map, which says nothing."""
    monkeypatch.setattr("explainers.superpixels.segment", lambda image, _: torch.zeros(image.shape[1:]).long())
    for item in explain(kind(samples=9), network_of("vgg")):
        assert item.degenerate
        assert item.raw_minimum == item.raw_maximum


@each_over_superpixels
@pytest.mark.parametrize("samples", [1, 2, 5])
def test_fewer_coalitions_than_superpixels(kind: type[Lime | KernelShap], samples: int) -> None:
    """There is an answer, if not a good one."""
    for item in explain(kind(samples=samples), network_of("vgg")):
        assert np.isfinite(item.raw_maximum)


@each_over_superpixels
def test_images_with_unlike_numbers_of_superpixels(kind: type[Lime | KernelShap]) -> None:
    """Each image in a batch has coalitions of its own, and as many as it needs."""
    method = kind(samples=1100, segments=12)
    images = pictures()
    counts = {len(method.design(int(segment(image, 12).max()) + 1).coalitions) for image in images}
    assert len(counts) == (2 if kind is KernelShap else 1)
    net = network_of("residual")
    targets = [TopK(2), Classes((4,)), TopK(1)]
    for index, together in enumerate(method.explain(net, images, targets)):
        assert_close(together, method.explain(net, images[index : index + 1], [targets[index]])[0])


# LIME


def linear_game(coalitions: Tensor, values: Tensor) -> Tensor:
    """Scores, shape (1, n), of players that each bring their value, whoever else is there."""
    return (0.3 + coalitions.double() @ values)[None]


def test_lime_recovers_a_linear_model() -> None:
    """With hardly any penalty the coefficients are those of the model."""
    method = Lime(samples=200, alpha=1e-6, kernel_width=1.0)
    design = method.design(10)
    values = torch.randn(10, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    solved = method.solve(design, linear_game(design.coalitions, values))[0]
    torch.testing.assert_close(solved, values, rtol=0, atol=1e-5)


def test_lime_is_scikit_learns_ridge_regression() -> None:
    """On the same samples, with other parameters than by default, for two classes at once."""
    method = Lime(samples=60, alpha=7.0, kernel_width=0.4, seed=9)
    design = method.design(15)
    assert design.coalitions[0].all()
    scores = torch.rand(2, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    cosine = torch.nn.functional.cosine_similarity(design.coalitions.double(), torch.ones(60, 15).double())
    weights = torch.exp(-((1 - cosine) ** 2) / 0.4**2).sqrt()
    ridge = Ridge(alpha=7.0).fit(design.coalitions.numpy(), scores.T.numpy(), sample_weight=weights.numpy())
    np.testing.assert_allclose(method.solve(design, scores), ridge.coef_, atol=1e-10)


# KernelSHAP


def game_of(subject: str, pieces: list[Any], target: int) -> references.Game:
    """The probability of a class for each coalition, in float64."""
    image = pictures(1)[0]
    model = model_of(subject)

    def game(coalition: references.Coalition) -> float:
        shown = references.with_hidden(image, pieces, coalition)
        return float(references.probabilities(model, shown[None])[0, target])

    return game


@pytest.mark.parametrize("subject", ["residual", "vit"])
def test_kernel_shap_is_exact_for_few_superpixels(subject: str) -> None:
    """Shapley values by their definition, from every coalition there is."""
    image = pictures(1)[0]
    method = KernelShap(segments=6, baseline="superpixel_mean")
    labels = segment(image, 6)
    pieces = [(labels == label).numpy() for label in range(int(labels.max()) + 1)]
    assert 4 <= len(pieces) <= 9
    for item in explain(method, network_of(subject)):
        expected = references.shapley_values(len(pieces), game_of(subject, pieces, item.target))
        np.testing.assert_allclose(values_of(item, labels), expected, atol=1e-6)


@pytest.mark.parametrize("baseline", BASELINES)
def test_kernel_shap_adds_up(baseline: str) -> None:
    """Drawn or not, the values share out the difference between everything and nothing."""
    net = network_of("vit")
    image = pictures(1)[0]
    for samples, segments in ((7, 50), (300, 50), (1000, 5)):
        picture = Superpixels.of(image, segments, baseline)
        none, everything = picture.show(torch.tensor([[False], [True]]).expand(2, picture.count))
        assert torch.equal(everything, image)
        gain = net.predict(image[None]).softmax(dim=1)[0] - net.predict(none[None]).softmax(dim=1)[0]
        for item in explain(KernelShap(samples=samples, segments=segments, baseline=baseline), net):
            assert sum(values_of(item, picture.labels)) == pytest.approx(gain[item.target].item(), abs=1e-5)


def test_kernel_shap_recovers_a_linear_model() -> None:
    """In a game without interactions every player's value is what it brings, also from drawn coalitions."""
    method = KernelShap(samples=80)
    design = method.design(30)
    assert len(design.coalitions) == 82
    values = torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    solved = method.solve(design, linear_game(design.coalitions, values))[0]
    torch.testing.assert_close(solved, values, rtol=0, atol=1e-9)


def test_drawn_coalitions_come_near_the_shapley_values() -> None:
    """2000 draws from 4094 coalitions of a game with interactions, to a twentieth of the largest value."""
    players = 12
    table = 0.3 * torch.rand(2**players, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    bits = 2 ** torch.arange(players)
    game = {}
    for coalition in itertools.product((False, True), repeat=players):
        index = int((torch.tensor(coalition) * bits).sum())
        table[index] += (sum(coalition) / players) ** 2 + 0.5 * coalition[0] * coalition[3]
        game[coalition] = table[index].item()
    expected = torch.tensor(references.shapley_values(players, game.__getitem__), dtype=torch.float64)
    errors = []
    for samples in (200, 2000, 4094):
        method = KernelShap(samples=samples)
        design = method.design(players)
        scores = table[(design.coalitions * bits).sum(dim=1)][None]
        errors.append((method.solve(design, scores)[0] - expected).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < expected.max() / 20
    assert errors[2] < 1e-12


def test_coalitions_come_in_pairs_by_the_kernel() -> None:
    """Each draw is followed by its complement, and sizes are as frequent as the Shapley kernel has it."""
    method = KernelShap(samples=20000)
    coalitions = method.design(20).coalitions[2:]
    assert torch.equal(coalitions[0::2], ~coalitions[1::2])
    kernel = shapley_kernel(20)
    assert kernel[3] == pytest.approx(19 / (1140 * 3 * 17))
    chances = kernel * torch.tensor([math.comb(20, size) for size in range(21)])
    frequency = coalitions.sum(dim=1).bincount(minlength=21) / 20000
    torch.testing.assert_close(frequency.double(), chances / chances.sum(), rtol=0, atol=0.01)
    membership = coalitions.double().mean(dim=0)
    torch.testing.assert_close(membership, torch.full((20,), 0.5, dtype=torch.float64))


def test_one_coalition_short_of_all() -> None:
    """Where not every coalition fits they are drawn; where all fit each is there once."""
    every = KernelShap(samples=30).design(5).coalitions
    assert len(every) == 32
    assert len(every.unique(dim=0)) == 32
    drawn = KernelShap(samples=29).design(5).coalitions
    assert len(drawn) == 31


@each_over_superpixels
def test_stopping_after_one_pass(kind: type[Lime | KernelShap]) -> None:
    """The model is of the coalitions of that pass: for LIME, the map of as many samples."""
    method = kind(samples=500, segments=12, baseline="black")
    assert isinstance(method, Stepwise)
    net = network_of("residual")
    stopped = method.explain(net, pictures(1), [ALL], watch=StopAtOnce())[0].explanations
    picture = Superpixels.of(pictures(1)[0], 12, "black")
    design = method.design(picture.count).first(net.images_at_once)
    scores = net.predict(picture.show(design.coalitions)).softmax(dim=1).T.double()
    expected = method.solve(design, scores)
    for item in stopped:
        np.testing.assert_allclose(values_of(item, picture.labels), expected[item.target], atol=1e-6)
