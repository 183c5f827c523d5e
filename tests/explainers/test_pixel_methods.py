"""The methods on pixels: what each does that the shared contract does not ask."""

import pytest
import torch

from explainers import METHODS, Classes, Explanation, InvalidParameterError, Network, TopK
from explainers.pixel_gradient import ROWS_AT_ONCE
from tests.explainers.cases import model_of, network_of
from tests.explainers.networks import network, perceptron, pictures, prepare

ALL = Classes(tuple(range(5)))


def explain(name: str, net: Network, **parameters: object) -> list[Explanation]:
    """The explanations of every class of one image."""
    method = METHODS[name](**parameters)  # type: ignore[call-arg]
    return list(method.explain(net, pictures(1, net.input_size), [ALL])[0].explanations)


def raw(item: Explanation) -> torch.Tensor:
    """The map before it was stretched to [0, 1]."""
    return item.map * (item.raw_maximum - item.raw_minimum) + item.raw_minimum


@pytest.mark.parametrize("name", ["gradient", "smooth_grad", "integrated_gradients", "occlusion", "fake_cam"])
def test_networks_without_a_layer(name: str) -> None:
    """A network without any spatial map is explained too, in its own size."""
    for size in ((32, 32), (20, 44)):
        net = network(prepare(perceptron(size=size), size), size)
        assert all(item.map.shape == size for item in explain(name, net))


def test_integrated_gradients_sum_up_to_the_difference_of_the_scores() -> None:
    """Completeness: with enough steps the raw map adds up to y(x) - y(black)."""
    net = network_of("vit")
    black, full = net.predict(torch.cat([torch.zeros(1, 3, 32, 32), pictures(1)]))
    for item in explain("integrated_gradients", net, steps=256):
        expected = (full - black)[item.target].item()
        assert raw(item).sum().item() == pytest.approx(expected, rel=0.01, abs=0.01)


def test_smooth_grad_without_noise_is_the_gradient() -> None:
    """Averaging equal gradients changes nothing; another seed changes the noise."""
    net = network_of("vgg")
    for a, b in zip(explain("smooth_grad", net, noise=0.0, samples=3), explain("gradient", net), strict=True):
        torch.testing.assert_close(a.map, b.map, rtol=0, atol=1e-5)
    first, second = (explain("smooth_grad", net, seed=seed)[0].map for seed in (0, 1))
    assert not torch.equal(first, second)


def test_targets_share_the_passes() -> None:
    """Five targets cost as many images through the network as one, in chunks of versions."""
    for name, expected in (("gradient", 1), ("smooth_grad", 26), ("integrated_gradients", 33)):
        model = prepare(model_of("residual").__class__())
        calls: list[int] = []
        model.stem.register_forward_hook(lambda _module, inputs, _output, calls=calls: calls.append(len(inputs[0])))
        net = network(model)
        calls.clear()
        explain(name, net)
        assert sum(calls) == expected
        assert max(calls) <= ROWS_AT_ONCE


def test_occlusion_in_whole_tiles() -> None:
    """Squares side by side: each has one value, the drop of the probability when it turns grey."""
    net = network_of("vgg")
    items = explain("occlusion", net, window=16, stride=16, grey=0.25)
    covered = pictures(1)
    covered[:, :, 16:, :16] = 0.25
    drop = net.predict(pictures(1)).softmax(1)[0] - net.predict(covered).softmax(1)[0]
    for item in items:
        torch.testing.assert_close(raw(item)[16:, :16], drop[item.target].expand(16, 16), rtol=1e-3, atol=1e-6)


def test_occlusion_fills_in_and_refuses() -> None:
    """The window follows the input and is cut to it; squares must cover everything, and not be too many."""
    net = network_of("residual")
    kind = METHODS["occlusion"]
    assert kind().resolve(net) == kind(window=5, stride=2)  # type: ignore[call-arg]
    assert kind(window=100).resolve(net) == kind(window=32, stride=16)  # type: ignore[call-arg]
    large = network(prepare(perceptron(size=(80, 80)), (80, 80)), (80, 80))
    for method, where in ((kind(window=3, stride=4), net), (kind(window=1, stride=1), large)):  # type: ignore[call-arg]
        with pytest.raises(InvalidParameterError) as caught:
            method.resolve(where)
        assert caught.value.parameter == "stride"
        with pytest.raises(InvalidParameterError):
            method.explain(where, pictures(1, where.input_size), [TopK()])


def test_a_score_that_is_no_number_explains_nothing() -> None:
    """ReLU lets finite gradients through where the scores are not; the map is marked all the same."""
    images = pictures(2)
    images[1] = torch.nan
    good, broken = METHODS["gradient"]().explain(network_of("residual"), images, [TopK()] * 2)
    assert not good.explanations[0].degenerate
    assert broken.explanations[0].degenerate
