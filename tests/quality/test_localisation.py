"""The metrics against boxes, worked out by hand."""

import pytest
import torch

from quality import (
    METRICS,
    EnergyPointingGame,
    Evidence,
    LocalisationError,
    MaxBoxAccuracy,
    MaxBoxAccuracyV2,
    Metric,
    PixelF1,
    PointingGame,
    ThresholdIoU,
    summarise,
)
from tests.quality.toys import boxes, seen

# Mean 7.5 / 16. Above it: an L of three pixels at the top left with its box (0, 0, 2, 2), one pixel that touches the L
# only at a corner, one far away that is as high as the highest.
MAP = [
    [1.0, 1.0, 0.0, 0.0],
    [0.75, 0.0, 0.0, 0.0],
    [0.0, 0.75, 0.0, 0.0],
    [0.25, 0.25, 0.25, 1.0],
]
# sum = 2 + .75 + .75 + .75 + 1 = 5.25, mean = 0.328


def only(metric: Metric, evidence: Evidence) -> float:
    """The only value."""
    return float(metric.values(evidence)[0])


def test_localisation_error() -> None:
    """With corners the component reaches down to row 3: box (0, 0, 2, 3); IoU with (0, 0, 2, 2) is 4 / 6."""
    evidence = seen(MAP, boxes=boxes([[0.0, 0.0, 2.0, 2.0]]))
    assert only(LocalisationError(), evidence) == pytest.approx(1 - 4 / 6)
    assert only(LocalisationError(connectivity="4"), evidence) == 0


def test_localisation_error_takes_the_best_box() -> None:
    """Of several objects the one that the map found counts."""
    evidence = seen(MAP, boxes=boxes([[3.0, 3.0, 4.0, 4.0], [0.0, 0.0, 2.0, 2.0]]))
    assert only(LocalisationError(), evidence) == pytest.approx(1 - 4 / 6)


def test_binarised_at_half() -> None:
    """An IoU of 4 / 6 is found, of exactly 1 / 2 too, of 4 / 9 isn't."""
    for box, expected in (([0.0, 0.0, 2.0, 2.0], 0), ([0.0, 0.0, 3.0, 4.0], 0), ([0.0, 0.0, 2.0, 6.75], 1)):
        assert only(METRICS["localisation_error_at_half"](), seen(MAP, boxes=boxes([box]))) == expected


def test_official_metric() -> None:
    """As the localisation error where the class is predicted, else 1."""
    right, wrong = (
        seen(MAP, boxes=boxes([[0.0, 0.0, 2.0, 2.0]]), logits=torch.tensor([row])) for row in ([1.0, 0], [0, 1.0])
    )
    assert only(METRICS["official_metric"](), right) == pytest.approx(1 - 4 / 6)
    assert only(METRICS["official_metric"](), wrong) == 1
    assert only(METRICS["official_metric_at_half"](), right) == 0
    assert only(METRICS["official_metric_at_half"](), wrong) == 1
    assert only(METRICS["localisation_error"](), wrong) == pytest.approx(1 - 4 / 6)


def test_pixel_f1() -> None:
    """In the left half: 1 + 1 + 0.75 + 0.75 + 0.25 + 0.25 = 4 of 5.25; area 8; P = 4 / 5.25, R = 4 / 8."""
    evidence = seen(MAP, boxes=boxes([[0.0, 0.0, 2.0, 4.0]]))
    precision, recall = 4 / 5.25, 4 / 8
    assert only(PixelF1(), evidence) == pytest.approx(2 * precision * recall / (precision + recall))


def test_overlapping_boxes_count_once() -> None:
    """U is a union: the same box twice changes nothing."""
    once, twice = (seen(MAP, boxes=boxes([[0.0, 0.0, 2.0, 4.0]] * count)) for count in (1, 2))
    for metric in (PixelF1(), EnergyPointingGame(), ThresholdIoU()):
        assert only(metric, once) == only(metric, twice)


def test_pixels_belong_to_a_box_by_their_centre() -> None:
    """A box from 0.6 to 1.5 in x holds column 1 only if 1.5 is outside: the end is exclusive. From 0.5 it holds 0."""
    evidence = seen(MAP, boxes=boxes([[0.5, 0.0, 1.5, 1.0]]))
    assert evidence.inside[0].nonzero().tolist() == [[0, 0]]


def test_energy_pointing_game() -> None:
    """4 of 5.25 in the left half."""
    assert only(EnergyPointingGame(), seen(MAP, boxes=boxes([[0.0, 0.0, 2.0, 4.0]]))) == pytest.approx(4 / 5.25)


def test_pointing_game() -> None:
    """The first maximum is the pixel at row 0, column 0, its centre at (0.5, 0.5)."""
    cases = [
        ([0.0, 0.0, 1.0, 1.0], 0, 1),
        ([3.0, 3.0, 4.0, 4.0], 0, 0),  # an equal maximum, but a later one
        ([3.5, 0.0, 4.0, 1.0], 2.9, 0),
        ([3.5, 0.0, 4.0, 1.0], 3, 1),
        ([3.5, 4.5, 4.0, 5.0], 4.9, 0),
        ([3.5, 4.5, 4.0, 5.0], 5, 1),  # 3 across and 4 down
    ]
    for box, tolerance, expected in cases:
        assert only(PointingGame(tolerance=tolerance), seen(MAP, boxes=boxes([box]))) == expected


def test_pointing_game_is_not_transposed() -> None:
    """The maximum at row 0, column 2 is in the box (2, 0, 3, 1), not in (0, 2, 1, 3)."""
    saliency = [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert only(PointingGame(), seen(saliency, boxes=boxes([[2.0, 0.0, 3.0, 1.0]]))) == 1
    assert only(PointingGame(), seen(saliency, boxes=boxes([[0.0, 2.0, 1.0, 3.0]]))) == 0


def test_threshold_iou() -> None:
    """Above 0.25 four pixels inside the left half of 8, one outside: 4 / 9; above 0.2 six and two: 6 / 10."""
    evidence = seen(MAP, boxes=boxes([[0.0, 0.0, 2.0, 4.0]]))
    assert only(ThresholdIoU(), evidence) == pytest.approx(4 / 9)
    assert only(ThresholdIoU(delta=0.25), evidence) == pytest.approx(4 / 9)
    assert only(ThresholdIoU(delta=0.2), evidence) == pytest.approx(6 / 10)


def test_max_box_accuracy() -> None:
    """Two maps, each found at one threshold only, and not the same one: half of them at the best threshold.

    First map: 0.9 on the object, 0.8 around it, 1 at a far pixel. Of thresholds 0, 0.25, 0.5, 0.75 all see the 0.8.
    """
    first = [[1.0, 0.2, 0.2, 0.0], [0.2, 0.2, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]  # alone above 0.2
    second = [[1.0, 0.4, 0.0, 0.0], [0.4, 0.4, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    images, maps = torch.full((2, 3, 4, 4), 0.5), torch.tensor([first, second])
    found = Evidence(images, ((0,), (0,)), maps, boxes=boxes([[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 2.0, 2.0]]))
    metric = MaxBoxAccuracy(thresholds=4)  # 0, 0.25, 0.5, 0.75
    values = metric.values(found)
    assert values.tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]
    assert summarise(metric, [values]).value == 1
    assert summarise(metric, [values[:, [0, 2, 3]]]).value == 0.5
    assert summarise(metric, [torch.tensor([[1.0, 0.0], [0.0, 1.0]])]).value == 0.5  # one threshold for all images
    assert summarise(metric, [values[:1]]).value == 1


def test_max_box_accuracy_takes_the_largest_component() -> None:
    """A far larger component hides the object's, unless any component counts."""
    saliency = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    evidence = seen(saliency, boxes=boxes([[0.0, 0.0, 1.0, 1.0]]))
    assert summarise(MaxBoxAccuracy(), [MaxBoxAccuracy().values(evidence)]).value == 0
    assert summarise(MaxBoxAccuracyV2(), [MaxBoxAccuracyV2().values(evidence)]).value == 1


def test_max_box_accuracy_v2_averages_over_levels() -> None:
    """A box (0, 0, 2, 2) against (0, 0, 2, 4): IoU 1 / 2 meets the levels 0.3 and 0.5 of three."""
    saliency = [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    evidence = seen(saliency, boxes=boxes([[0.0, 0.0, 2.0, 4.0]]))
    metric = MaxBoxAccuracyV2(thresholds=10)
    # at threshold 0 the whole 3 x 4 image has IoU 8 / 12 with the box, which is below 0.7 too
    assert summarise(metric, [metric.values(evidence)]).value == pytest.approx(2 / 3)


def test_no_box_no_value() -> None:
    """Rows without a box, or with one that holds no pixel where pixels count, have no value."""
    for name, metric in METRICS.items():
        if metric.needs == {"boxes"}:
            assert metric().values(seen(MAP, boxes=boxes([]))).isnan().all(), name
    for metric in (PixelF1(), ThresholdIoU()):
        assert metric.values(seen(MAP, boxes=boxes([[0.1, 0.1, 0.2, 0.2]]))).isnan().all()
