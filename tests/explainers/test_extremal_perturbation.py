"""What only extremal perturbation does. That it agrees with its definition is in the contract."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainers import Classes, InvalidParameterError, Network, TopK, validate
from explainers.extremal_perturbation import ExtremalPerturbation
from explainers.perturbation import LEVELS, Pyramid, blurred, faded
from explainers.smooth_mask import REACH, TEMPERATURE, WIDTH, SmoothMask, area_target
from tests.explainers import references_extremal
from tests.explainers.cases import double_network_of, model_of, network_of
from tests.explainers.counting import convolution_flops
from tests.explainers.networks import MEAN, STD, network, pictures
from tests.real_networks import prepared


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


class Patch(nn.Module):
    """Class 1 is the contrast of neighbouring pixels within one square of the image, class 0 is nothing."""

    rows, columns = slice(8, 26), slice(30, 48)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        seen = x[:, :, self.rows, self.columns]
        contrast = (seen[:, :, :, 1:] - seen[:, :, :, :-1]).abs().mean(dim=(1, 2, 3))
        return torch.stack([0 * contrast, self.scale * contrast], dim=1)


def patch_network() -> Network:
    """A network that looks at one square of its 64 x 64 pixels."""
    return network(Patch().eval(), input_size=(64, 64))


def random_values(*shape: int) -> Tensor:
    """Seeded numbers in [0, 1], some of them exactly 0 or 1."""
    values = 2 * torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    return values.clamp(0, 1)


def masked_logit(net: Network, image: Tensor, mask: Tensor, target: int, levels: Callable[[Tensor], Tensor]) -> float:
    """Of one class on one image, shape (1, 3, height, width), under one mask."""
    with torch.no_grad():
        return float(net.logits(Pyramid(levels(image))(torch.zeros(1, dtype=torch.long), mask[None]))[0, target])


def random_mask(size: tuple[int, int], area: float, seed: int) -> Tensor:
    """A smooth mask of an area: the highest places of smooth noise."""
    smooth = SmoothMask(size, torch.zeros(()))
    noise = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(seed))
    blurry = blurred(noise[:, None])[:, -1, 0]
    return smooth.enlarge(area_target(blurry, area))[0]


def test_smooth_maximum_against_a_loop() -> None:
    """Every point is sum(f e^(f/T)) / sum(e^(f/T)), f = k(u - v) c(v), over its neighbours v."""
    values = random_values(1, 32, 48)
    mask = SmoothMask((64, 96), values).spread(values)
    for row, column in [(0, 0), (0, 20), (3, 44), (16, 16), (31, 47)]:
        above = below = 0.0
        for down in range(-REACH, REACH + 1):
            for right in range(-REACH, REACH + 1):
                value = values[0, min(max(row + down, 0), 31), min(max(column + right, 0), 47)].item()
                spot = value * np.exp(-2 * max(0, np.hypot(down, right) / WIDTH - 0.5) ** 2)
                above += spot * np.exp(spot / TEMPERATURE)
                below += np.exp(spot / TEMPERATURE)
        assert mask[0, row, column].item() == pytest.approx(above / below, abs=1e-12)


def test_one_cell_makes_a_round_smooth_spot() -> None:
    """It takes a few percent of the image, and no neighbouring points differ by much."""
    values = torch.zeros(1, 32, 32)
    values[0, 16, 16] = 1
    mask = SmoothMask((224, 224), values).spread(values)[0]
    torch.testing.assert_close(mask, mask.T)
    assert mask[16, 16] == mask.max()
    assert 0.01 < (mask > 0.5).float().mean() < 0.05
    assert mask.diff(dim=0).abs().max() < 0.5


@pytest.mark.parametrize(
    ("size", "cells"),
    [((224, 224), (32, 32)), ((227, 227), (32, 32)), ((32, 32), (32, 32)), ((64, 96), (32, 48)), ((20, 30), (20, 30))],
)
def test_grid_follows_the_size_of_the_image(size: tuple[int, int], cells: tuple[int, int]) -> None:
    """32 cells along the shorter side, square ones, but none smaller than a pixel; the mask has the image's size."""
    smooth = SmoothMask(size, torch.zeros(()))
    assert smooth.cells == cells
    assert smooth.enlarge(smooth.spread(torch.rand(2, *cells))).shape == (2, *size)


def test_equal_values_make_a_constant_mask() -> None:
    """No place of the image is ahead of others from the start, neither a corner nor the middle."""
    smooth = SmoothMask((64, 96), torch.zeros((), dtype=torch.float64))
    mask = smooth.spread(torch.full((1, *smooth.cells), 0.7, dtype=torch.float64))
    assert (mask.max() - mask.min()).item() < 1e-12


@pytest.mark.parametrize("area", [0.01, 0.1, 0.5, 0.99])
def test_area_term_against_sorting(area: float) -> None:
    """The distance to the target is that of the sorted mask to zeros and then ones."""
    masks = torch.rand(3, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = ((masks - area_target(masks, area)) ** 2).mean(dim=(1, 2))
    ones = round(area * 72)
    wanted = np.concatenate([np.zeros(72 - ones), np.ones(ones)])
    expected = [np.mean((np.sort(mask.numpy().ravel()) - wanted) ** 2) for mask in masks]
    np.testing.assert_allclose(ours, expected, atol=1e-15)


def test_area_is_never_none_or_all() -> None:
    """Also on a grid so small that the share rounds to nothing, or to everything."""
    mask = torch.arange(4.0).view(1, 2, 2)
    assert area_target(mask, 0.01).flatten().tolist() == [0, 0, 0, 1]
    assert area_target(mask, 0.99).flatten().tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("perturbation", ["blur", "fade"])
def test_perturbed_images(perturbation: str) -> None:
    """Each pixel is that of the two nearest levels of its mask, in proportion; each row takes its own image."""
    images = pictures(2, (12, 14)).double()
    masks = random_values(3, 12, 14)
    levels = blurred(images) if perturbation == "blur" else faded(images)
    ours = Pyramid(levels)(torch.tensor([1, 0, 1]), masks)
    for row, index in enumerate([1, 0, 1]):
        expected = references_extremal.perturbed(references_extremal.pyramid(images[index], perturbation), masks[row])
        torch.testing.assert_close(ours[row], expected, rtol=0, atol=1e-12)


def test_ends_of_the_mask() -> None:
    """Ones leave the image as it is, zeros leave its strongest blur, or nothing."""
    images, first = pictures(1, (40, 40)), torch.zeros(1, dtype=torch.long)
    ones, zeros = torch.ones(1, 40, 40), torch.zeros(1, 40, 40)
    assert torch.equal(Pyramid(blurred(images))(first, ones), images)
    torch.testing.assert_close(Pyramid(blurred(images))(first, zeros), blurred(images)[:, LEVELS - 1])
    assert not Pyramid(faded(images))(first, zeros).any()


@pytest.mark.parametrize("perturbation", ["blur", "fade"])
@pytest.mark.parametrize("area", [0.1, 0.3])
def test_other_parameters_agree_with_the_definition(perturbation: str, area: float) -> None:
    """The contract has the default ones."""
    net, image = double_network_of("vgg"), pictures(1)
    method = ExtremalPerturbation(area=area, steps=6, perturbation=perturbation)
    found = references_extremal.extremal_perturbation(
        model_of("vgg"), image[0], MEAN, STD, 2, area=area, steps=6, perturbation=perturbation
    )
    item = method.explain(net, image, [Classes((2,))])[0].explanations[0]
    ends = item.raw_maximum - item.raw_minimum
    np.testing.assert_allclose(item.raw_minimum + ends * item.map.double(), found.mask, atol=1e-5)


@pytest.mark.parametrize("area", [0.1, 0.3])
@pytest.mark.parametrize("perturbation", ["blur", "fade"])
def test_covers_the_patch_that_the_score_depends_on(area: float, perturbation: str) -> None:
    """The mask has its area, most of the patch is in it, and the score is above that under random masks."""
    net, image = patch_network(), pictures(1, (64, 64))
    result = ExtremalPerturbation(area, 250, perturbation).explain(net, image, [Classes((1,))])[0].explanations[0]
    visible = result.map > 0.5
    assert visible.float().mean().item() == pytest.approx(area, abs=0.02)
    inside = visible[Patch.rows, Patch.columns].sum().item()
    assert inside > 0.8 * min(18**2, visible.sum().item())
    levels = blurred if perturbation == "blur" else faded
    ours = masked_logit(net, image, result.map, 1, levels)
    assert all(ours > masked_logit(net, image, random_mask((64, 64), area, seed), 1, levels) for seed in range(20))


def test_says_nothing_of_a_class_that_does_not_see_the_image() -> None:
    """Neither of that, nor of an image without any contrast, is there a mask; area alone makes none."""
    results = ExtremalPerturbation(steps=5).explain(
        patch_network(), torch.cat([pictures(1, (64, 64)), torch.full((1, 3, 64, 64), 0.5)]), [Classes((0, 1))] * 2
    )
    flags = [item.degenerate for result in results for item in result.explanations]
    assert flags == [True, False, True, True]
    assert (results[0].explanations[0].raw_minimum, results[0].explanations[0].raw_maximum) == (0, 0)


def test_rows_are_by_themselves() -> None:
    """What else is in the batch changes nothing, to the last bit."""
    net, images = network_of("residual"), pictures(3)
    images[1] = torch.nan
    targets = [Classes((0, 1)), TopK(), TopK(2)]
    together = ExtremalPerturbation(steps=12).explain(net, images, targets)
    assert together[1].explanations[0].degenerate
    for index in (0, 2):
        alone = ExtremalPerturbation(steps=12).explain(net, images[index : index + 1], targets[index : index + 1])[0]
        for one, other in zip(together[index].explanations, alone.explanations, strict=True):
            assert not one.degenerate
            assert torch.equal(one.map, other.map)


def test_costs_two_forward_passes_a_step() -> None:
    """The network's share: a pass for the logits, then two for each step; no gradient of a weight is computed."""
    net, image = network_of("vgg"), pictures(1)
    net.for_many_passes(rows_alike=True)  # the first time it tries
    forward = convolution_flops(lambda: net.predict(image))
    method = ExtremalPerturbation(steps=6).resolve(net)  # which tries once whether there is a gradient
    assert convolution_flops(lambda: method.explain(net, image, [TopK()])) == (1 + 2 * 6) * forward


def test_watch_sees_every_step() -> None:
    """It is told of each step once, with the total and an objective that never falls, and rises."""
    watch = Recorder()
    net, images = network_of("vit"), pictures(2)
    watched = ExtremalPerturbation(steps=30).explain(net, images, [TopK()] * 2, watch=watch)
    plain = ExtremalPerturbation(steps=30).explain(net, images, [TopK()] * 2)
    assert [(done, total) for done, total, _ in watch.calls] == [(done, 30) for done in range(1, 31)]
    objectives = [objective for _, _, objective in watch.calls]
    assert objectives == sorted(objectives)
    assert objectives[-1] > objectives[0]
    for a, b in zip(watched, plain, strict=True):
        assert torch.equal(a.explanations[0].map, b.explanations[0].map)


def test_watch_stops() -> None:
    """A true answer ends the ascent with the mask so far."""
    watch, image = Recorder(last=3), pictures(1)
    stopped = ExtremalPerturbation().explain(double_network_of("vgg"), image, [Classes((2,))], watch=watch)
    found = references_extremal.extremal_perturbation(model_of("vgg"), image[0], MEAN, STD, 2, stop=3)
    assert [(done, total) for done, total, _ in watch.calls] == [(1, 800), (2, 800), (3, 800)]
    item = stopped[0].explanations[0]
    assert item.raw_minimum == pytest.approx(found.mask.min(), abs=1e-6)
    assert item.raw_maximum == pytest.approx(found.mask.max(), abs=1e-6)


def test_watch_gives_up() -> None:
    """An exception of the watch is the caller's."""
    with pytest.raises(TimeoutError, match="nobody waits"):
        ExtremalPerturbation().explain(network_of("residual"), pictures(1), [TopK()], watch=GivingUp())


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"area": 0.0}, "area"),
        ({"area": 1.0}, "area"),
        ({"steps": 0}, "steps"),
        ({"steps": 2001}, "steps"),
        ({"perturbation": "noise"}, "perturbation"),
    ],
)
def test_wrong_parameters(values: dict[str, object], name: str) -> None:
    """Numbers out of range and perturbations that do not exist are refused, by name."""
    with pytest.raises(InvalidParameterError) as caught:
        validate(ExtremalPerturbation(**values))  # type: ignore[arg-type]
    assert caught.value.parameter == name


@pytest.mark.real
@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224", "squeezenet1_1"])
def test_real_networks(name: str) -> None:
    """On photographs, the logit under the mask is above that under random masks of its area."""
    _, net, photographs = prepared(name)
    images = photographs[:2]
    results = ExtremalPerturbation(area=0.2, steps=100).explain(net, images, [TopK()] * len(images))
    for image, result in zip(images.split(1), results, strict=True):
        item = result.explanations[0]
        assert (item.map > 0.5).float().mean().item() == pytest.approx(0.2, abs=0.05)
        ours = masked_logit(net, image, item.map, item.target, blurred)
        others = [random_mask(net.input_size, 0.2, seed) for seed in range(5)]
        logits = [masked_logit(net, image, other, item.target, blurred) for other in others]
        assert ours > np.mean(logits) + 1
        assert np.mean(ours > np.array(logits)) >= 0.8  # a random mask may happen to lie on the object
