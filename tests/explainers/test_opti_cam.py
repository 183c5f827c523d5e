"""What only Opti-CAM does. That it agrees with its definition is in the contract."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, InvalidParameterError, Network, TopK, pairs, upsample, validate
from explainers.masking import masked_logits, min_max
from explainers.opti_cam import PRESETS, MaskedScore, OptiCam
from explainers.pairs import Pairs
from explainers.rows import rounds_alike
from tests.explainers import references_opti_cam
from tests.explainers.cases import SUBJECTS, double_network_of, model_of, network_of
from tests.explainers.counting import convolution_flops
from tests.explainers.networks import MEAN, STD, ResidualCnn, network, pictures, prepare
from tests.real_networks import prepared

each_preset = pytest.mark.parametrize("preset", list(PRESETS))
each_subject = pytest.mark.parametrize("subject", list(SUBJECTS))


class Recorder:
    """A watch that notes everything, and asks to stop after some step."""

    def __init__(self, last: int | None = None) -> None:
        self.calls: list[tuple[int, int, float]] = []
        self.last = last

    def step(self, done: int, total: int, objective: float) -> bool:
        self.calls.append((done, total, objective))
        return done == self.last


class GivingUp:
    """A watch that raises at its second step."""

    def step(self, done: int, _total: int, _objective: float) -> None:
        if done == 2:
            raise TimeoutError("nobody waits")


class Counting(nn.Module):
    """Notes the size of every batch that goes through a network."""

    sizes: list[int] = []  # noqa: RUF012 - shared by all copies on purpose: the explainer works on one of them

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.body(x)


def masked_score(net: Network, images: Tensor, maps: list[Tensor], classes: list[int]) -> list[float]:
    """Logits of some classes under maps on a native grid."""
    masks = min_max(upsample(torch.stack(maps), net.input_size))
    with torch.no_grad():
        logits = masked_logits(net, images, masks)
    return [float(row[index]) for row, index in zip(logits, classes, strict=True)]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of two maps."""
    ranks = [values.flatten().argsort().argsort().double().numpy() for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


@each_preset
@pytest.mark.parametrize("subject", ["residual", "vgg"])
def test_is_not_grad_cam(subject: str, preset: str) -> None:
    """Its maps are others, and under them the logit is higher."""
    net, images = network_of(subject), pictures(10)
    classes = net.predict(images).argmax(dim=1).tolist()
    maps = {
        name: [result.explanations[0].map for result in method.explain(net, images, [TopK()] * len(images))]
        for name, method in (("opti_cam", OptiCam(preset=preset)), ("grad_cam", METHODS["grad_cam"]()))
    }
    ours, theirs = (masked_score(net, images, maps[name], classes) for name in ("opti_cam", "grad_cam"))
    assert np.mean(np.array(ours) > np.array(theirs)) >= 0.95
    assert np.median([rank_correlation(*pair) for pair in zip(*maps.values(), strict=True)]) < 0.9


@pytest.mark.real
@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224", "squeezenet1_1", "vit_tiny_patch16_224"])
def test_real_networks(name: str) -> None:
    """A few steps are enough to be above Grad-CAM on photographs, with another map."""
    _, net, photographs = prepared(name)
    images = photographs[:4]
    classes = net.predict(images).argmax(dim=1).tolist()
    ours, theirs = (
        [result.explanations[0].map for result in method.explain(net, images, [TopK()] * len(images))]
        for method in (OptiCam(preset="fast", steps=10), METHODS["grad_cam"]())
    )
    higher = np.array(masked_score(net, images, ours, classes)) > masked_score(net, images, theirs, classes)
    assert higher.all()
    assert np.median([rank_correlation(*pair) for pair in zip(ours, theirs, strict=True)]) < 0.9


@each_subject
def test_fast_is_what_its_definition_says(subject: str) -> None:
    """The preset's steps by the mask, against the slow reference: every step's best so far, and the map."""
    image, entry = pictures(1), SUBJECTS[subject]
    found = references_opti_cam.fast(
        model_of(subject), image[0], MEAN, STD, entry.layer, 2, entry.to_grid, steps=6, learning_rate=0.3
    )
    watch = Recorder()
    method = OptiCam(preset="fast", steps=6, learning_rate=0.3)
    result = method.explain(double_network_of(subject), image, [Classes((2,))], watch=watch)[0].explanations[0]
    best = np.maximum.accumulate(found.logits)
    assert len(set(best)) > 2
    assert [objective for _, _, objective in watch.calls] == pytest.approx(best[1:], rel=1e-5)
    span = found.raw.max() - found.raw.min()
    np.testing.assert_allclose(result.map, (found.raw - found.raw.min()) / span, atol=1e-4)


@each_subject
def test_fast_reaches_what_published_reaches(subject: str) -> None:
    """The mean logit under the masks is at least as high, after at most half the passes."""
    assert PRESETS["fast"].steps <= PRESETS["published"].steps / 2
    net, images = network_of(subject), pictures(10)
    classes = net.predict(images).argmax(dim=1).tolist()
    means = {}
    for preset in PRESETS:
        results = OptiCam(preset=preset).explain(net, images, [TopK()] * len(images))
        maps = [result.explanations[0].map for result in results]
        means[preset] = np.mean(masked_score(net, images, maps, classes))
    assert means["fast"] >= means["published"] - 0.01 * abs(means["published"])


@pytest.mark.parametrize("subject", ["residual", "vgg", "vit"])
def test_the_best_step_is_answered(subject: str) -> None:
    """With steps so large that the last is not the best one, the logit under the map is the highest on the way."""
    image = pictures(1)
    entry = SUBJECTS[subject]
    found = references_opti_cam.opti_cam(
        model_of(subject), image[0], MEAN, STD, entry.layer, 2, entry.to_grid, steps=25, learning_rate=3
    )
    assert found.logits.index(max(found.logits)) < 25
    net = double_network_of(subject)
    result = OptiCam(steps=25, learning_rate=3).explain(net, image, [Classes((2,))])[0]
    assert masked_score(net, image, [result.explanations[0].map], [2])[0] == pytest.approx(found.logit, rel=1e-5)


def test_negative_values_of_convolutions_are_cut_off() -> None:
    """A layer in front of its ReLU is explained as its definition says."""
    image, net = pictures(1), double_network_of("residual")
    found = references_opti_cam.opti_cam(model_of("residual"), image[0], MEAN, STD, "stage.0.norm", 1, steps=10)
    result = OptiCam(layer="stage.0.norm", steps=10).explain(net, image, [Classes((1,))])[0]
    assert found.raw.min() >= 0
    assert result.explanations[0].raw_minimum == pytest.approx(found.raw.min(), abs=1e-6)
    assert result.explanations[0].raw_maximum == pytest.approx(found.raw.max(), abs=1e-6)


@pytest.mark.parametrize("subject", ["residual", "vit"])
def test_masks_lie_on_pixels(subject: str) -> None:
    """The score is f(N(x * mask)), with black where the mask is zero, and not f(N(x) * mask)."""
    model, net, image = model_of(subject), double_network_of(subject), pictures(1)
    activation = net.record(image, SUBJECTS[subject].layer).activation
    pairs = Pairs.of([(3,)], net.device)
    mixture = torch.linspace(-1, 1, activation.shape[1], dtype=torch.float64)[None]
    score, _ = MaskedScore(net, image, activation, pairs)(mixture, torch.arange(1), False)
    mask = references_opti_cam.mask_of(mixture[0], activation[0], image[0])
    inputs = references_opti_cam.normalised_under(mask, image[0], MEAN, STD)
    expected = copy.deepcopy(model).double()(inputs)[0, 3].item()
    behind = references_opti_cam.normalised_under(torch.ones_like(mask), image[0], MEAN, STD) * mask
    other = copy.deepcopy(model).double()(behind)[0, 3].item()
    assert score.item() == pytest.approx(expected, abs=1e-6)
    assert abs(other - expected) > 1e-4


def test_rows_stop_by_themselves() -> None:
    """A broken image costs one pass; its neighbours climb on, and end where they end alone, to the last bit."""
    model = Counting(prepare(ResidualCnn()))
    with torch.no_grad():
        model.body.stem.bias.fill_(-0.5)  # type: ignore[union-attr]
    net = network(model, target_layer="body.stage.1")
    rounds_alike(net.for_many_passes(rows_alike=True))  # the first time it tries
    images = torch.cat([pictures(2), torch.full((1, 3, 32, 32), torch.nan)])
    targets = [Classes((0, 1)), TopK(), TopK()]
    Counting.sizes.clear()
    together = OptiCam(steps=20).explain(net, images, targets)
    assert sum(Counting.sizes) == 3 + 4 + 3 * 20  # to record, at the start, and after each step
    assert together[2].explanations[0].degenerate
    for index in (0, 1):
        alone = OptiCam(steps=20).explain(net, images[index : index + 1], targets[index : index + 1])[0]
        for one, other in zip(together[index].explanations, alone.explanations, strict=True):
            assert not one.degenerate
            assert torch.equal(one.map, other.map)


def test_constant_activation() -> None:
    """Where every feature map is constant nothing is tried, and the map is marked."""
    model = prepare(ResidualCnn())
    with torch.no_grad():
        model.stage[1].norm.weight.zero_()  # type: ignore[index, union-attr]
        model.stem.weight.zero_()  # type: ignore[union-attr]
        model.stage[0].norm.weight.zero_()  # type: ignore[index, union-attr]
    counting = Counting(model)
    net = network(counting, target_layer="body.stage.1")
    rounds_alike(net.for_many_passes(rows_alike=True))  # the first time it tries
    Counting.sizes.clear()
    result = OptiCam().explain(net, pictures(2), [TopK(2)] * 2)
    assert sum(Counting.sizes) == 2 + 4
    for item in (item for entry in result for item in entry.explanations):
        assert item.degenerate
        assert not item.map.any()


@each_preset
def test_costs_two_forward_passes_a_step(preset: str) -> None:
    """The network's share: a pass for the activation, two a step, a last look; no gradient of a weight is computed."""
    net, image = network_of("vgg"), pictures(1)
    net.for_many_passes(rows_alike=True)  # the first time it tries
    forward = convolution_flops(lambda: net.predict(image))
    method = OptiCam(preset=preset, steps=6)
    assert convolution_flops(lambda: method.explain(net, image, [TopK()])) == (1 + 2 * 6 + 1) * forward


@each_preset
def test_chunks_make_no_difference(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many rows go through the network together changes nothing but rounding."""
    net, images = double_network_of("residual"), pictures(3)
    method, targets = OptiCam(preset=preset, steps=12), [TopK(2), TopK(3), TopK(1)]
    whole = method.explain(net, images, targets)
    monkeypatch.setitem(pairs.ROWS_AT_ONCE, "cpu", 4)
    for a, b in zip(whole, method.explain(net, images, targets), strict=True):
        for one, other in zip(a.explanations, b.explanations, strict=True):
            torch.testing.assert_close(one.map, other.map, rtol=0, atol=1e-6)


def test_watch_sees_every_step() -> None:
    """It is told of each step once, with the total and a mean that never falls."""
    watch = Recorder()
    watched = OptiCam(steps=7).explain(network_of("vit"), pictures(2), [TopK()] * 2, watch=watch)
    plain = OptiCam(steps=7).explain(network_of("vit"), pictures(2), [TopK()] * 2)
    assert [(done, total) for done, total, _ in watch.calls] == [(done, 7) for done in range(1, 8)]
    objectives = [objective for _, _, objective in watch.calls]
    assert objectives == sorted(objectives)
    for a, b in zip(watched, plain, strict=True):
        assert torch.equal(a.explanations[0].map, b.explanations[0].map)


def test_watch_stops() -> None:
    """A true answer ends the climb with the best so far: that of a climb of as many steps."""
    watch = Recorder(last=3)
    stopped = OptiCam().explain(network_of("residual"), pictures(2), [TopK()] * 2, watch=watch)
    short = OptiCam(steps=3).explain(network_of("residual"), pictures(2), [TopK()] * 2)
    assert [(done, total) for done, total, _ in watch.calls] == [(1, 100), (2, 100), (3, 100)]
    for a, b in zip(stopped, short, strict=True):
        torch.testing.assert_close(a.explanations[0].map, b.explanations[0].map, rtol=0, atol=1e-4)


def test_watch_gives_up() -> None:
    """An exception of the watch is the caller's."""
    with pytest.raises(TimeoutError, match="nobody waits"):
        OptiCam().explain(network_of("residual"), pictures(1), [TopK()], watch=GivingUp())


def test_resolving_fills_in_the_preset() -> None:
    """What the answer says was done: the preset's numbers, or those asked for in their place."""
    net = network_of("residual")
    for name, preset in PRESETS.items():
        resolved = OptiCam(preset=name).resolve(net)
        assert (resolved.steps, resolved.learning_rate) == (preset.steps, preset.learning_rate)
    assert PRESETS["published"].steps == 100
    assert PRESETS["published"].learning_rate == 0.1
    assert OptiCam(steps=3, learning_rate=0.5).resolve(net) == OptiCam("stage.1", "published", 3, 0.5)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"preset": "best"}, "preset"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"learning_rate": 0}, "learning_rate"),
    ],
)
def test_wrong_parameters(values: dict[str, object], name: str) -> None:
    """A preset that does not exist and numbers out of range are refused, by name."""
    with pytest.raises(InvalidParameterError) as caught:
        validate(OptiCam(**values))  # type: ignore[arg-type]
    assert caught.value.parameter == name
