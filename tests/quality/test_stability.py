"""Max-sensitivity and infidelity: by hand, and against captum."""

import copy

import pytest
import torch
from torch import Tensor

from explainers import METHODS, Network, TopK
from quality import Evidence, Infidelity, MaxSensitivity, explain_by, of_results
from tests.explainers.networks import MEAN, STD, network, pictures, prepare, vgg
from tests.quality.toys import Redness, seen, toy


def test_max_sensitivity_by_hand() -> None:
    """The map moves by 0.3 in one cell once, and by 0.4 in another: 0.4 over a norm of sqrt(1 + 0.25)."""
    answers = iter([[[1.0, 0.5], [0.3, 0.0]], [[1.0, 0.9], [0.0, 0.0]], [[1.0, 0.5], [0.0, 0.0]]])

    def explain(_network: Network, images: Tensor, _classes: object) -> Tensor:
        assert 0 < (images - 0.5).abs().max() <= 0.02 + 1e-6
        return torch.tensor(next(answers))[None]

    evidence = seen([[1.0, 0.5], [0.0, 0.0]], [[0.5] * 2] * 2, explain=explain)
    assert float(MaxSensitivity(samples=3).values(evidence)) == pytest.approx(0.4 / 1.25**0.5, abs=1e-6)


def test_max_sensitivity_of_a_constant_answer() -> None:
    """A method that doesn't look at the image is as stable as can be; one whose map vanishes moves by its norm."""
    saliency = [[1.0, 0.5], [0.0, 0.0]]
    for answer, expected in ((torch.tensor([saliency]), 0), (torch.zeros(1, 2, 2), 1)):
        evidence = seen(saliency, explain=lambda *_arguments, answer=answer: answer)
        assert float(MaxSensitivity().values(evidence)) == pytest.approx(expected)


def test_infidelity_by_hand() -> None:
    """Squares of one pixel of 1 x 2 pixels: taking pixel i lowers p by its red / 2.

    Pixels (red + green + blue) are 0.8 + 1 and 0.4 + 1; the map foretells 1.8 * 1 and 0 for what is 0.4 and 0.2. With
    n of N samples at the first pixel, b = (n 1.8 * 0.4) / (n 1.8^2), and what is left is 0.2^2 at the others.
    """
    evidence = seen([[1.0, 0.0]], [[0.8, 0.4]])
    metric = Infidelity(size=0.5, samples=20)
    changes = [change[0, 0, 0, 0] > 0 for change in metric.changes(evidence.images)]
    others = 20 - sum(map(int, changes))
    assert 0 < others < 20
    assert float(metric.values(evidence)) == pytest.approx(others * 0.2**2 / 20, abs=1e-6)
    expected = (others * 0.2**2 + (20 - others) * (1.8 - 0.4) ** 2) / 20
    assert float(Infidelity(size=0.5, samples=20, rescale=False).values(evidence)) == pytest.approx(expected, abs=1e-5)


def test_squares_are_where_chance_puts_them() -> None:
    """Inside the image, of the size asked for, not all at one place; and black images lose nothing."""
    changes = torch.cat(list(Infidelity(size=0.5, samples=30).changes(torch.ones(1, 3, 6, 8))))
    assert changes.flatten(1).sum(dim=1).tolist() == [3 * 3 * 4] * 30
    assert len({tuple(map(int, change[0].nonzero()[0])) for change in changes}) > 5
    assert not any(change.any() for change in Infidelity().changes(torch.zeros(1, 3, 6, 8)))


def test_seeds() -> None:
    """The same seed changes nothing, another one does, and the global state has no say."""
    net = network(prepare(vgg()))
    method = METHODS["grad_cam"]()
    evidence = of_results(net, pictures(2), method.explain(net, pictures(2), [TopK()] * 2), explain=explain_by(method))
    for metric in (MaxSensitivity, Infidelity):
        torch.manual_seed(1)
        first = metric(samples=3).values(evidence)
        torch.manual_seed(2)
        assert torch.equal(first, metric(samples=3).values(evidence))
        assert not torch.equal(first, metric(samples=3, seed=1).values(evidence))


@pytest.mark.oracle
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("perturbation", ["square", "gaussian"])
def test_infidelity_agrees_with_captum(rescale: bool, perturbation: str) -> None:
    """With our changes, on a network with a normalisation."""
    metrics = pytest.importorskip("captum.metrics")
    model, images = prepare(vgg()), pictures(3)
    maps = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(7))
    evidence = Evidence(images, ((0,), (3,), (1,)), maps, network=network(model))
    metric = Infidelity(perturbation=perturbation, samples=12, rescale=rescale)
    mean, std = (torch.tensor(row).view(1, 3, 1, 1) for row in (MEAN, STD))
    double = copy.deepcopy(model).double()
    changes = iter(list(metric.changes(images)))

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        change = next(changes).double().expand_as(inputs)
        return change, inputs - change

    expected = metrics.infidelity(
        lambda x: double((x - mean) / std).softmax(dim=1),
        perturb,
        images.double(),
        evidence.pixels[:, None].expand(-1, 3, -1, -1).double(),
        target=evidence.pairs.classes,
        n_perturb_samples=12,
        max_examples_per_batch=3,
        normalize=rescale,
    )
    torch.testing.assert_close(metric.values(evidence), expected.double(), rtol=1e-4, atol=1e-9)


@pytest.mark.oracle
def test_max_sensitivity_agrees_with_captum() -> None:
    """With our noise, for Layer-CAM."""
    metrics = pytest.importorskip("captum.metrics")
    net, images, classes = network(prepare(vgg())), pictures(3), ((0,), (3,), (1,))
    explain = explain_by(METHODS["layer_cam"]())
    evidence = Evidence(images, classes, explain(net, images, classes), network=net, explain=explain)
    metric = MaxSensitivity(samples=6, radius=0.05)
    noise = iter(list(metric.noise(images)))

    def maps(inputs: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        (images,) = inputs if isinstance(inputs, tuple) else (inputs,)
        return (explain(net, images, classes).flatten(1),)

    expected = metrics.sensitivity_max(
        maps,
        images,
        perturb_func=lambda x: x + next(noise),
        n_perturb_samples=6,
        max_examples_per_batch=3,
    )
    values = metric.values(evidence)
    assert (values > 0).all()
    torch.testing.assert_close(values, expected.double(), rtol=1e-5, atol=1e-7)


def test_infidelity_of_a_perfect_linear_map() -> None:
    """Where p is linear in the pixels of one colour and the map is right, nothing is left."""

    class Linear(Redness):
        def forward(self, x: Tensor) -> Tensor:
            red = (x.mean(dim=1) * torch.tensor([[0.4, 0.2], [0.0, 0.1]])).sum(dim=(1, 2)).clamp(1e-6)
            return torch.stack([red, 1 - red], dim=1).log()

    evidence = Evidence(
        pictures(1, (2, 2)), ((0,),), torch.tensor([[[0.4, 0.2], [0.0, 0.1]]]), network=toy(Linear(), (2, 2))
    )
    assert float(Infidelity(size=0.5).values(evidence)) < 1e-10
