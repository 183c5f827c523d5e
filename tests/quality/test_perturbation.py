"""Insertion, deletion, positive and negative perturbation: by hand, against the slow reference, and their cost."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import torch

from quality import (
    Deletion,
    Evidence,
    Insertion,
    NegativePerturbation,
    NegativePerturbationWithZero,
    PositivePerturbation,
    PositivePerturbationWithZero,
    deletion_curve,
    insertion_curve,
)
from quality.curves import blurred, salience_ranks
from tests.explainers.networks import MEAN, STD, network, pictures, prepare, vgg
from tests.quality import references_perturbation as references
from tests.quality.toys import Redness, reddish, seen, toy

SIZE = (6, 7)
CLASSES = ((0, 3), (2,))
MEAN_COLUMN, STD_COLUMN = (np.array(row)[:, None, None] for row in (MEAN, STD))


def evidence() -> Evidence:
    """Two images, three rows, maps with many equal pixels, a network with a normalisation."""
    maps = torch.randint(0, 9, (3, *SIZE), generator=torch.Generator().manual_seed(5)).float()
    model = prepare(vgg(), SIZE)
    return Evidence(pictures(2, SIZE), CLASSES, maps, network=network(model, SIZE), model=model)


def test_deletion_by_hand() -> None:
    """p: (0.8 + 0.4 + 0.2 + 0.6) / 4 = 0.5, without 0.8: 0.3, without 0.4: 0.2, without 0.6: 0.05, without all: 0."""
    found = seen([[1.0, 0.5], [0.0, 0.25]], [[0.8, 0.4], [0.2, 0.6]])
    curve = deletion_curve(found, steps=4)
    torch.testing.assert_close(
        curve.probabilities[0, :, 0], torch.tensor([0.5, 0.3, 0.2, 0.05, 0.0]).double(), atol=1e-5, rtol=0
    )
    expected = 0.25 * (0.5 / 2 + 0.3 + 0.2 + 0.05 + 0 / 2)
    assert float(Deletion(steps=4).values(found)) == pytest.approx(expected, abs=1e-5)


def test_insertion_by_hand() -> None:
    """On black (which the toy's mean colour is): 0, 0.2, 0.3, 0.45, 0.5."""
    found = seen([[1.0, 0.5], [0.0, 0.25]], [[0.8, 0.4], [0.2, 0.6]])
    expected = 0.25 * (0 / 2 + 0.2 + 0.3 + 0.45 + 0.5 / 2)
    for baseline in ("mean", "black"):
        assert float(Insertion(steps=4, baseline=baseline).values(found)) == pytest.approx(expected, abs=1e-5)


def test_equal_pixels_go_row_by_row() -> None:
    """The order is stable, most and least salient first."""
    found = seen([[1.0, 2.0, 1.0], [2.0, 1.0, 2.0]])
    assert salience_ranks(found)[0].tolist() == [[3, 0, 4], [1, 5, 2]]
    assert salience_ranks(found, most_salient_first=False)[0].tolist() == [[0, 3, 1], [4, 2, 5]]


@pytest.mark.parametrize("steps", [1, 5, 42])
def test_insertion_and_deletion_agree_with_the_definition(steps: int) -> None:
    """Every row of a batch, for numbers of steps that do and don't divide the pixels."""
    found = evidence()
    model = copy.deepcopy(found.model).double()
    insertion, deletion = Insertion(steps=steps).values(found), Deletion(steps=steps).values(found)
    for row, (image, target) in enumerate(zip(found.pairs.images, found.pairs.classes.tolist(), strict=True)):
        whole = (found.images[image].double().numpy() - MEAN_COLUMN) / STD_COLUMN
        saliency = found.pixels[row].numpy()
        curve = references.curve(model, whole, np.zeros_like(whole), saliency, target, steps)
        assert float(deletion[row]) == pytest.approx(references.area(curve, 42), abs=1e-5)
        curve = references.curve(model, references.blur(whole), whole, saliency, target, steps)
        assert float(insertion[row]) == pytest.approx(references.area(curve, 42), abs=1e-5)


def test_default_is_224_pixels_a_step_at_224() -> None:
    """224 x 224 pixels in the default number of steps."""
    assert 224 * 224 / Deletion().steps == 224 * 224 / Insertion().steps == 224


def test_blur_keeps_an_even_picture_of_the_mean_colour() -> None:
    """Around the picture lies the mean colour; far from the edges any even colour stays."""
    mean = torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(blurred(mean.expand(1, -1, 30, 30), mean), mean.expand(1, -1, 30, 30))
    white = blurred(torch.ones(1, 3, 30, 30), mean)
    torch.testing.assert_close(white[:, :, 5:-5, 5:-5], torch.ones(1, 3, 20, 20))
    assert (white[:, :, 0] < 1).all()


def test_costs_what_it_must() -> None:
    """Both curves of one image: steps - 1 mixtures each, the image, the blurred image and the mean colour."""
    found = Evidence(pictures(1, SIZE), ((1,),), evidence().maps[:1], network=evidence().network)
    with counted(found) as passes:
        Insertion(steps=10).values(found)
        Deletion(steps=10).values(found)
    assert passes() == 2 * (10 - 1) + 3


def test_several_rows_share_the_ends() -> None:
    """Two images with three rows: 2 images, 2 blurred ones, 1 mean colour, and 9 mixtures of each row twice."""
    found = evidence()
    with counted(found) as passes:
        Insertion(steps=10).values(found)
        Deletion(steps=10).values(found)
    assert passes() == 2 + 2 + 1 + 2 * 3 * 9


@contextmanager
def counted(found: Evidence) -> Iterator[Callable[[], int]]:
    """Counts the images that go through the network."""
    assert found.network is not None
    found.network.for_many_passes()  # the first time it tries
    with mock.patch.object(found.network, "logits", wraps=found.network.logits) as logits:
        yield lambda: sum(len(call.args[0]) for call in logits.call_args_list)


def test_further_classes_come_along() -> None:
    """The most probable classes are followed in the same passes, each as if it were the row's own."""
    found = evidence()
    with counted(found) as passes:
        curve = insertion_curve(found, steps=6, top_k=2)
    assert passes() == 2 + 2 + 3 * 5
    assert curve.classes.shape == (3, 3)
    best = found.scores.argsort(dim=1, descending=True)[:, :2]
    assert torch.equal(curve.classes[:, 1:], best[found.pairs.images])
    second = Evidence(found.images[:1], ((int(best[0, 1]),),), found.maps[:1], network=found.network)
    expected = insertion_curve(second, steps=6).probabilities[0, :, 0]
    torch.testing.assert_close(curve.probabilities[0, :, 2], expected, rtol=0, atol=1e-6)


def test_perturbation_by_hand() -> None:
    """Ten pixels in a row with p = sum / 10: class 0 wins while the sum of the rest is above 5.

    Red pixels are nine times 0.7 and once 0. Most salient first is from the left: sums 6.3, 5.6, 4.9, ...: right at 0
    and 10 %. Least salient first takes the black pixel first: 6.3, 6.3, 5.6, 4.9: right up to 20 %.
    """
    red = [[0.7] * 9 + [0.0]]
    found = seen([[float(10 - place) for place in range(10)]], red)
    assert float(PositivePerturbationWithZero().values(found)) == pytest.approx(0.1 * (0.5 + 1 + 0))
    assert float(PositivePerturbation().values(found)) == pytest.approx(0.1 * 0.5)
    assert float(NegativePerturbationWithZero().values(found)) == pytest.approx(0.1 * (0.5 + 1 + 1))
    assert float(NegativePerturbation().values(found)) == pytest.approx(0.1 * (0.5 + 1))


def test_perturbation_of_a_class_that_is_not_predicted() -> None:
    """Class 1 of the same image is right where class 0 isn't; the predicted one is another question."""
    found = Evidence(
        reddish([[0.7] * 9 + [0.0]]),
        ((1,),),
        torch.arange(10.0).flip(0).view(1, 1, 10),
        network=toy(Redness(), (1, 10)),
    )
    assert float(PositivePerturbation().values(found)) == pytest.approx(0.1 * (7 + 0.5))  # 20, ..., 90 %
    assert float(PositivePerturbation(right="predicted").values(found)) == pytest.approx(0.1 * 0.5)


@pytest.mark.parametrize("most_salient_first", [True, False])
def test_perturbation_agrees_with_the_definition(most_salient_first: bool) -> None:
    """Every row of a batch: black pixels before the model's normalisation."""
    found = evidence()
    model = copy.deepcopy(found.model).double()
    with_zero = PositivePerturbationWithZero() if most_salient_first else NegativePerturbationWithZero()
    without = PositivePerturbation() if most_salient_first else NegativePerturbation()
    values = torch.stack([with_zero.values(found), without.values(found)])
    for row, (image, target) in enumerate(zip(found.pairs.images, found.pairs.classes.tolist(), strict=True)):
        saliency = found.pixels[row].numpy()
        predicted = references.predictions(
            model, found.images[image], MEAN_COLUMN, STD_COLUMN, saliency, most_salient_first
        )
        right = [float(each == target) for each in predicted]
        expected = [np.trapezoid(right, dx=0.1), np.trapezoid(right[1:], dx=0.1)]
        assert values[:, row].tolist() == pytest.approx(expected)
