"""What every metric in the registry must keep to."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from explainers import InvalidParameterError, InvalidTargetError, specs, validate
from quality import METRICS, Evidence, MissingEvidenceError, Need, summarise
from tests.explainers.networks import Refusing, network, pictures, prepare
from tests.explainers.test_contract import untouched
from tests.quality.cases import CASES, each_metric, evidence, model, object_evidence, one_image

ROWS = 5


def test_every_metric_is_in_the_table() -> None:
    """A metric that is registered is tested here."""
    assert CASES.keys() == METRICS.keys()


@each_metric
def test_description(name: str) -> None:
    """A metric says what it is and describes each of its parameters; its defaults are valid."""
    metric = METRICS[name]
    assert metric.name == name
    assert all((metric.title, metric.formula, metric.reference, metric.__doc__))
    assert metric.direction in ("higher", "lower")
    assert metric.range[0] < metric.range[1]
    assert all(spec.description for spec in specs(metric))
    validate(metric())
    assert metric() == metric()
    assert {metric(): 1}[metric()] == 1


@each_metric
def test_bounds(name: str) -> None:
    """Numbers outside of a parameter's bounds are refused."""
    for spec in specs(METRICS[name]):
        outside = [bound + step for bound, step in ((spec.minimum, -1), (spec.maximum, 1)) if bound is not None]
        for value in (*outside, *(["nonsense"] if spec.choices else [])):
            with pytest.raises(InvalidParameterError):
                validate(METRICS[name](**{spec.name: value}))


@each_metric
def test_values_are_finite_and_in_range(name: str) -> None:
    """One value for each row, in float64 on the CPU, where the metric says that they are."""
    metric = CASES[name].metric(name)
    values = metric.values(evidence())
    assert len(values) == ROWS
    assert (values.dtype, values.device.type) == (torch.float64, "cpu")
    assert values.isfinite().all()
    assert (values >= metric.range[0]).all()
    assert (values <= metric.range[1]).all()
    figure = summarise(metric, [values])
    assert metric.range[0] <= figure.value <= metric.range[1]
    assert (figure.count, figure.undefined) == (ROWS, 0)


@each_metric
def test_batch_equals_single(name: str) -> None:
    """What else is in the batch makes no difference, not even an image that is not finite."""
    metric = CASES[name].metric(name)
    images = pictures(3)
    images[1] = torch.nan
    whole = replace(evidence(images=images), maps=evidence().maps)  # a good map of a broken image
    together = metric.values(whole)
    assert together[2].isnan().all()  # the row of the broken image
    for index, rows in ((0, slice(0, 2)), (2, slice(3, 5))):
        alone = metric.values(one_image(whole, index))
        assert alone.isfinite().all()
        torch.testing.assert_close(together[rows], alone, rtol=1e-4, atol=1e-4)


@each_metric
def test_deterministic(name: str) -> None:
    """The same question gets the same answer to the last bit, whatever the global random state is."""
    torch.manual_seed(1)
    first = CASES[name].metric(name).values(evidence())
    torch.manual_seed(2)
    assert torch.equal(first, CASES[name].metric(name).values(evidence()))


@each_metric
@pytest.mark.parametrize("content", [0.0, 1.0, torch.nan, torch.inf])
def test_degenerate_maps_have_no_figure(name: str, content: float) -> None:
    """A constant map, or one that is not finite, gives not-a-number and leaves its neighbours as they are."""
    metric = CASES[name].metric(name)
    whole = evidence()
    maps = whole.maps.clone()
    maps[1] = content
    values, before = metric.values(replace(whole, maps=maps)), metric.values(whole)
    assert values[1].isnan().all()
    others = [0, 2, 3, 4]
    torch.testing.assert_close(values[others], before[others], rtol=1e-4, atol=1e-4)
    figure = summarise(metric, [values])
    assert (figure.count, figure.undefined) == (ROWS - 1, 1)
    assert math.isfinite(figure.value)


@each_metric
def test_nothing_but_degenerate_maps(name: str) -> None:
    """No row has a value: no exception, no division by zero, and a figure over none."""
    whole = evidence()
    metric = CASES[name].metric(name)
    values = metric.values(replace(whole, maps=torch.zeros_like(whole.maps)))
    assert values.isnan().all()
    figure = summarise(metric, [values])
    assert math.isnan(figure.value)
    assert (figure.count, figure.undefined) == (0, ROWS)


@each_metric
def test_no_rows(name: str) -> None:
    """An image without a class has no values."""
    empty = Evidence(
        pictures(1),
        ((),),
        torch.empty(0, 4, 4),
        network=evidence().network,
        boxes=(),
        masks=torch.empty(0, 32, 32, dtype=torch.bool),
        other_maps=torch.empty(0, 4, 4),
        explain=evidence().explain,
        model=model(),
    )
    assert len(CASES[name].metric(name).values(empty)) == 0


@each_metric
def test_prefers_a_right_map_to_its_inverse(name: str) -> None:
    """A map of the object is better, in the metric's own direction, than the map of everything else."""
    if not CASES[name].prefers_right:
        pytest.skip("not what this metric asks")
    metric = CASES[name].metric(name)
    right, inverse = (summarise(metric, [metric.values(object_evidence(right=each))]).value for each in (True, False))
    assert right > inverse if metric.direction == "higher" else right < inverse


@each_metric
def test_says_what_is_missing(name: str) -> None:
    """Each need that is not met is named, and nothing that isn't declared is needed."""
    metric = CASES[name].metric(name)
    whole = evidence()
    unneeded = {need.value: None for need in Need if need not in metric.needs}
    assert torch.equal(metric.values(replace(whole, **unneeded)), metric.values(whole))
    for need in metric.needs:
        with pytest.raises(MissingEvidenceError, match=f"{name} needs {need.value}") as caught:
            metric.values(replace(whole, **{need.value: None}))
        assert caught.value.need == need


@each_metric
def test_leaves_everything_untouched(name: str) -> None:
    """The caller's model and evidence stay as they were, after success and after failure."""
    own = prepare(Refusing()).train()
    net = network(own)
    whole = replace(evidence(net=net), model=own)
    copies = {
        field.name: [each.clone() for each in torch.atleast_3d(value)]
        for field in dataclasses.fields(whole)
        if isinstance(value := getattr(whole, field.name), torch.Tensor)
    }
    with untouched(own):
        CASES[name].metric(name).values(whole)
        if "network" in CASES[name].metric(name).needs:
            with pytest.raises(RuntimeError, match="refused"):
                CASES[name].metric(name).values(replace(whole, images=1000 * whole.images))
    for field, copied in copies.items():
        for before, after in zip(copied, torch.atleast_3d(getattr(whole, field)), strict=True):
            assert torch.equal(before, after), field


def test_mixed_calls_from_many_threads_equal_serial_ones() -> None:
    """Any metric on a shared network, all at once: bit-equal to one after another."""
    names = sorted(CASES) * 2
    serial = [CASES[name].metric(name).values(evidence()) for name in names]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda name: CASES[name].metric(name).values(evidence()), names))
    for name, expected, found in zip(names, serial, threaded, strict=True):
        assert torch.equal(expected, found), name


@each_metric
def test_works_inside_the_callers_inference_mode(name: str) -> None:
    """The same values under inference mode."""
    expected = CASES[name].metric(name).values(evidence())
    with torch.inference_mode():
        torch.testing.assert_close(CASES[name].metric(name).values(evidence()), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_metric
def test_cuda(name: str) -> None:
    """On a GPU the values are on the CPU, and the same to float32, wherever the images are."""
    net = network(model(), device="cuda")
    expected = CASES[name].metric(name).values(evidence())
    for device in ("cpu", "cuda"):
        whole = replace(evidence(net=net), maps=evidence().maps, images=pictures(3).to(device))
        values = CASES[name].metric(name).values(whole)
        assert values.device.type == "cpu"
        torch.testing.assert_close(values, expected, rtol=1e-2, atol=2e-2)


def test_wrong_classes() -> None:
    """A class that the network does not have is refused, below and above."""
    for index in (-1, 5):
        with pytest.raises(InvalidTargetError, match="between 0 and 4"):
            METRICS["average_drop"]().values(replace(evidence(), classes=((0, index), (2,), (1, 4))))


def test_wrong_evidence() -> None:
    """Evidence whose parts don't fit is refused at once."""
    whole = evidence()
    for wrong in (
        {"classes": whole.classes[:2]},
        {"maps": whole.maps[:4]},
        {"boxes": whole.boxes[:1]},
        {"masks": whole.masks[:, :5]},
        {"other_maps": whole.maps[:1]},
    ):
        with pytest.raises(ValueError, match=r"rows|images"):
            replace(whole, **wrong)
