"""Average drop, increase and gain, Win %, and the bounding-box study, worked out by hand."""

from unittest import mock

import pytest
import torch

from explainers import METHODS, Network, TopK
from quality import METRICS, AverageDrop, AverageGain, AverageIncrease, Evidence, WinPercentage, of_results, summarise
from tests.explainers.networks import network, pictures, prepare, vgg
from tests.quality.toys import Redness, boxes, reddish, seen, toy

RED = [[0.8, 0.4], [0.2, 0.6]]  # p = 2.0 / 4 = 0.5


def value(name: str, evidence: Evidence) -> float:
    """The only value."""
    return float(METRICS[name]().values(evidence)[0])


def test_a_map_that_hides() -> None:
    """o = (0.8 * 1 + 0.4 * 0.5 + 0.2 * 0 + 0.6 * 0.25) / 4 = 0.2875: a drop by 0.2125 of 0.5, and no gain."""
    evidence = seen([[1.0, 0.5], [0.0, 0.25]], RED)
    assert value("average_drop", evidence) == pytest.approx(100 * 0.2125 / 0.5, abs=1e-4)
    assert value("average_increase", evidence) == 0
    assert value("average_gain", evidence) == 0


def test_a_map_that_gains() -> None:
    """Class 1 has p = 1 - 0.5; under the map o = 1 - 0.2875: a gain of 0.2125 of the missing 0.5."""
    plane = torch.tensor([[[1.0, 0.5], [0.0, 0.25]]])
    evidence = Evidence(reddish(RED), ((1,),), plane, network=toy(Redness(), (2, 2)))
    assert value("average_drop", evidence) == 0
    assert value("average_increase", evidence) == 100
    assert value("average_gain", evidence) == pytest.approx(100 * 0.2125 / 0.5, abs=1e-4)


def test_increase_is_strict() -> None:
    """A probability that stays the same has not increased."""
    assert value("average_increase", seen([[1.0, 1.0], [0.0, 1.0]], [[0.5, 0.5], [0.0, 0.5]])) == 0


def test_certain_and_impossible_classes() -> None:
    """From p = 1 nothing can be gained and from p = 0 nothing dropped: 0, and no division by zero."""
    for logits, name in (([2000.0, 0.0], "average_gain"), ([-2000.0, 0.0], "average_drop")):
        assert value(name, seen([[1.0, 0.5], [0.0, 0.25]], RED, logits=torch.tensor([logits]))) == 0


def test_masks_in_pixels_before_the_models_normalisation() -> None:
    """With mean 0.5, black is not the mean colour: o is of x * S, not of (x - mean) * S."""
    net = Network(Redness(), input_size=(2, 2), mean=(-0.5,) * 3, std=(2.0,) * 3)  # red' = (red + 0.5) / 2
    evidence = Evidence(reddish(RED), ((0,),), torch.tensor([[[1.0, 0.5], [0.0, 0.25]]]), network=net)
    p, o = (0.5 + 0.5) / 2, (0.2875 + 0.5) / 2
    assert value("average_drop", evidence) == pytest.approx(100 * (p - o) / p, abs=1e-4)


def test_map_is_stretched_after_enlarging() -> None:
    """A 2 x 1 map (0, 4) on 4 x 1 pixels is 0, 1, 3, 4 (cell centres at 1 and 3), and n() makes it 0, 1/4, 3/4, 1."""
    evidence = Evidence(torch.full((1, 3, 4, 1), 0.5), ((0,),), torch.tensor([[[0.0], [4.0]]]))
    torch.testing.assert_close(evidence.pixels[0, :, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    evidence = Evidence(torch.full((1, 3, 1, 1), 0.5), ((0,),), torch.tensor([[[0.0], [4.0]]]))
    assert evidence.pixels.item() == 0  # shrunk to one pixel, it is constant


def test_win_percentage() -> None:
    """Two rows: o = 0.2875 against 0.2 wins; against 0.5 it doesn't; equal drops don't win either."""
    maps = torch.tensor([[[1.0, 0.5], [0.0, 0.25]]]).expand(3, -1, -1)
    rival = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.99, 1.0]], [[1.0, 0.5], [0.0, 0.25]]])
    images = reddish(RED).expand(3, -1, -1, -1)
    evidence = Evidence(images, ((0,),) * 3, maps, network=toy(Redness(), (2, 2)), other_maps=rival)
    assert WinPercentage().values(evidence).tolist() == [100, 0, 0]


def test_win_percentage_needs_both_maps() -> None:
    """A rival that says nothing can't be beaten: no value."""
    evidence = seen([[1.0, 0.5], [0.0, 0.25]], RED, other_maps=torch.zeros(1, 2, 2))
    assert WinPercentage().values(evidence).isnan().all()


def test_bounding_box_study() -> None:
    """B is the left column: o is 1.0 / 4 behind B, 0.8 / 4 behind S in B, 0.35 / 4 behind S without B; p = 0.5."""
    evidence = seen([[1.0, 0.5], [0.0, 0.25]], RED, boxes=boxes([[0.0, 0.0, 1.0, 2.0]]))
    assert value("average_drop_box", evidence) == pytest.approx(100 * (0.5 - 0.25) / 0.5, abs=1e-4)
    assert value("average_drop_inside_box", evidence) == pytest.approx(100 * (0.5 - 0.2) / 0.5, abs=1e-4)
    assert value("average_drop_outside_box", evidence) == pytest.approx(100 * (0.5 - 0.0875) / 0.5, abs=1e-4)
    other = Evidence(evidence.images, ((1,),), evidence.maps, evidence.network, boxes=evidence.boxes)
    for place, o in (("box", 0.75), ("inside_box", 0.8), ("outside_box", 0.9125)):
        assert value(f"average_gain_{place}", other) == pytest.approx(100 * (o - 0.5) / 0.5, abs=1e-4)
        assert value(f"average_increase_{place}", other) == 100
        assert value(f"average_increase_{place}", evidence) == 0


def test_bounding_box_study_needs_a_box() -> None:
    """No pixel in a box: no value, rather than that of a black image."""
    for nowhere in ([], [[5.0, 5.0, 9.0, 9.0]]):
        assert METRICS["average_drop_box"]().values(seen([[1.0, 0.0]], boxes=boxes(nowhere))).isnan().all()


def test_figure_is_the_mean_over_defined_rows() -> None:
    """Drops of 42.5 and 0 and a degenerate map: 21.25 over two, one left out."""
    maps = torch.tensor([[[1.0, 0.5], [0.0, 0.25]], [[0.0, 1.0], [1.0, 1.0]], [[3.0, 3.0], [3.0, 3.0]]])
    images = torch.cat([reddish(RED), reddish([[0.0, 0.4], [0.2, 0.6]]), reddish(RED)])
    evidence = Evidence(images, ((0,),) * 3, maps, network=toy(Redness(), (2, 2)))
    values = AverageDrop().values(evidence)
    figure = summarise(AverageDrop(), [values[:1], values[1:]])
    assert (figure.value, figure.count, figure.undefined) == (pytest.approx(21.25, abs=1e-4), 2, 1)
    empty = summarise(AverageDrop(), [values[2:]])
    assert empty.value != empty.value
    assert (empty.count, empty.undefined) == (0, 1)


def test_one_forward_pass_for_all_three() -> None:
    """AD, AI and AG share the masked pass, and the unmasked logits come with the explanation."""
    model = prepare(vgg())
    net = network(model)
    results = METHODS["grad_cam"]().explain(net, pictures(2), [TopK(2)] * 2)
    evidence = of_results(net, pictures(2), results)
    with mock.patch.object(net, "logits", wraps=net.logits) as logits:
        for metric in (AverageDrop(), AverageIncrease(), AverageGain()):
            metric.values(evidence)
    assert [len(call.args[0]) for call in logits.call_args_list] == [4]  # rows
