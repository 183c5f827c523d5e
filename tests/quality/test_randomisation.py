"""Model-parameter randomisation: which weights change when, and never those of the caller."""

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, Network, NotApplicableError, TopK
from quality import Evidence, ModelRandomisation, explain_by, of_results
from quality.randomisation import layers_from_the_top, randomised
from tests.explainers.networks import ResidualCnn, ViT, network, pictures, prepare, vgg
from tests.quality.toys import Redness, toy


def evidence(model: nn.Module, method: str = "grad_cam", **further: Tensor) -> Evidence:
    """Two images and three rows."""
    net, images = network(model), pictures(2)
    way = METHODS[method]()
    results = way.explain(net, images, [TopK(2), Classes((4,))])
    return of_results(net, images, results, model=model, explain=explain_by(way), **further)


def test_layers_come_from_the_top() -> None:
    """In the order of execution, the classifier first; what a parent reads from a child comes with the parent."""
    assert paths_from_the_top(prepare(vgg())) == ["1.3", "1.1", "0.4", "0.3", "0.1", "0.0"]
    order = paths_from_the_top(prepare(ViT()))
    assert order[:3] == ["head", "norm", "blocks.1.mlp.2"]
    block = ["mlp.2", "mlp.0", "norm2", "attention.out_proj", "attention", "norm1"]
    assert order[2:8] == [f"blocks.1.{path}" for path in block]
    assert order[-2:] == ["patch", ""]  # the class token and the positions are the model's own


def paths_from_the_top(model: nn.Module) -> list[str]:
    """The paths of the layers in the order in which they become random."""
    paths = {module: path for path, module in model.named_modules()}
    return [paths[layer] for layer in layers_from_the_top(model, network(model))]


@pytest.mark.parametrize("stages", [None, 1, 4, 100])
def test_weights_become_random_and_stay_so(stages: int | None) -> None:
    """After each stage the layers from the top down to some point have new weights, the others the caller's."""
    model = prepare(vgg())
    net = network(model)
    names = paths_from_the_top(model)
    changed_before: list[str] = []
    seen: dict[str, Tensor] = {}
    count = 0
    for changed_model in randomised(model, net, stages, seed=0):
        count += 1
        state = dict(changed_model.named_parameters())
        changed = [name for name in names if not torch.equal(state[f"{name}.weight"], model.get_submodule(name).weight)]
        assert changed == names[: len(changed)]
        assert len(changed) > len(changed_before)
        for name in changed_before:
            assert torch.equal(state[f"{name}.weight"], seen[name])
        changed_before, seen = changed, {name: state[f"{name}.weight"].clone() for name in changed}
    assert changed_before == names
    assert count == min(stages or 6, 6)


def test_random_weights_do_not_depend_on_the_stages() -> None:
    """In the end all is the same, however many stages it took; another seed gives other weights."""
    model = prepare(vgg())
    ends = [list(randomised(model, network(model), stages, seed))[-1] for stages, seed in ((1, 0), (6, 0), (1, 1))]
    first, second, third = ([weight.clone() for weight in end.parameters()] for end in ends)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, third, strict=True) if a.numel() > 1)


def test_random_weights_have_the_old_ones_scale() -> None:
    """The same mean and standard deviation, which a large layer shows."""
    model = prepare(vgg())
    with torch.no_grad():
        model[1][1].weight.mul_(3).add_(7)
    *_, last = randomised(model, network(model), None, seed=0)
    new, old = last[1][1].weight, model[1][1].weight  # type: ignore[index]
    old = old.detach()
    assert float(new.mean()) == pytest.approx(float(old.mean()), rel=0.05)
    assert float(new.std()) == pytest.approx(float(old.std()), rel=0.1)


def test_shared_weights_stay_shared() -> None:
    """One tensor in two layers is replaced by one tensor."""

    class Shared(ResidualCnn):
        def __init__(self) -> None:
            super().__init__()
            self.stage[1].conv.weight = self.stage[0].conv.weight

    model = prepare(Shared())
    *_, last = randomised(model, network(model), None, seed=0)
    assert last.stage[1].conv.weight is last.stage[0].conv.weight
    assert not torch.equal(last.stage[0].conv.weight, model.stage[0].conv.weight)


def test_correlations() -> None:
    """One for each row and stage: that of the map before with the map of the same class after."""
    found = evidence(prepare(ResidualCnn()), "layer_cam")
    correlations = ModelRandomisation(stages=3).correlations(found)
    assert correlations.shape == (3, 3)
    assert ((correlations >= -1) & (correlations <= 1) | correlations.isnan()).all()
    assert (correlations < 0.999).any()
    values = ModelRandomisation(stages=3).values(found)
    torch.testing.assert_close(values, correlations.nanmean(dim=1))


@pytest.mark.parametrize(("build", "method"), [(ResidualCnn, "cam"), (ViT, "tibav"), (ViT, "raw_attention")])
def test_methods_that_ask_for_a_structure(build: type[nn.Module], method: str) -> None:
    """A network with random weights still is one with a linear head, or a plain transformer."""
    correlations = ModelRandomisation().correlations(evidence(prepare(build()), method))
    assert correlations.shape[1] > 5
    assert correlations.isfinite().any(dim=1).all()


def test_a_map_that_ignores_the_network_keeps_its_order() -> None:
    """Fake-CAM is the same on every network: correlation 1 at every stage."""
    assert ModelRandomisation(stages=2).values(evidence(prepare(vgg()), "fake_cam")).tolist() == pytest.approx([1] * 3)


def test_stages_without_a_map_are_left_out() -> None:
    """Where the map becomes degenerate there is no correlation, and the mean is over the others."""
    found = evidence(prepare(vgg()))
    answers = iter([found.maps, torch.zeros_like(found.maps), 1 - found.maps])

    def explain(_network: Network, _images: Tensor, _classes: object) -> Tensor:
        return next(answers)

    changed = Evidence(found.images, found.classes, found.maps, found.network, model=found.model, explain=explain)
    assert ModelRandomisation(stages=3).values(changed).tolist() == pytest.approx([0] * 3)


def test_a_network_without_weights() -> None:
    """There is nothing to randomise, and it is said so."""
    model = Redness()
    net = toy(model, (2, 2))
    found = Evidence(
        pictures(1, (2, 2)), ((0,),), torch.rand(1, 2, 2), net, model=model, explain=explain_by(METHODS["occlusion"]())
    )
    with pytest.raises(NotApplicableError, match="no weights"):
        ModelRandomisation().values(found)
