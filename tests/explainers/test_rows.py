"""How many rows go through a network together."""

import pytest
import torch
from torch import Tensor, nn

from explainers import Classes, TopK
from explainers.extremal_perturbation import ExtremalPerturbation
from explainers.mixing import Mixtures
from explainers.opti_cam import OptiCam
from explainers.rows import batch_sizes, rounds_alike, tried_sizes
from tests.explainers.networks import ResidualCnn, network, pictures, prepare


class Even(nn.Module):
    """Computes every image by itself; `alone` is added to an image that is alone, as by another rounding."""

    def __init__(self, alone: float) -> None:
        super().__init__()
        self.body = ResidualCnn()
        self.alone = alone

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(row) for row in torch.split(x, 1)]) + self.alone * (len(x) == 1)


def test_rows_go_together_where_nothing_changes() -> None:
    """To the last bit, by the sizes that were tried."""
    even, other = (network(prepare(Even(alone))) for alone in (0.0, 1e-3))
    assert rounds_alike(even)
    assert not rounds_alike(other)
    assert [batch_sizes(even, rows) for rows in (0, 1, 2, 3, 7, 9)] == [[], [1], [2], [2, 1], [4, 2, 1], [8, 1]]
    assert batch_sizes(other, 3) == [1, 1, 1]


def test_larger_images_go_by_four() -> None:
    """The tape of each takes more memory, and more of them are no faster."""
    large = network(prepare(Even(0.0)), input_size=(96, 64))
    assert tried_sizes(large) == (4, 2)
    assert batch_sizes(large, 9) == [4, 4, 1]


def test_it_is_tried_once() -> None:
    """For all copies of a network, and again for another number of threads."""
    net = network(prepare(Even(0.0)))
    threads = torch.get_num_threads()
    try:
        for count in (1, 1, 2):
            torch.set_num_threads(count)
            rounds_alike(net.for_many_passes(rows_alike=True))
            rounds_alike(net)
        assert net.trials == {("rounds alike", count, None): True for count in (1, 2)}
    finally:
        torch.set_num_threads(threads)


def test_one_image_only() -> None:
    """A network that takes no batch says so by raising: rows go one by one."""

    class Single(ResidualCnn):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).view(-1, 5) if len(x) < 4 else torch.cat([x, x]).view(-1, 5, 7)

    assert batch_sizes(network(prepare(Single())), 2) == [1, 1]


CLIMBS = {
    "published": OptiCam(steps=12),
    "fast": OptiCam(preset="fast", steps=12),
    "extremal perturbation": ExtremalPerturbation(steps=40),
}


@pytest.mark.parametrize("climb", CLIMBS)
def test_together_as_alone(climb: str) -> None:
    """Rows that go through the network together end where each ends alone, to the last bit."""
    net, images = network(prepare(ResidualCnn(channels=16))), pictures(3)
    if not rounds_alike(net.for_many_passes(rows_alike=True)):
        pytest.skip("this machine's libraries round a batch otherwise")
    method = CLIMBS[climb]
    together = method.explain(net, images, [Classes((0, 3)), TopK(), TopK(2)])
    for index, targets in enumerate([Classes((0, 3)), TopK(), TopK(2)]):
        alone = method.explain(net, images[index : index + 1], [targets])[0]
        for one, other in zip(together[index].explanations, alone.explanations, strict=True):
            assert torch.equal(one.map, other.map)


def test_mixtures() -> None:
    """S(u) and the way back, as autograd finds them; every row as by itself, to the last bit."""
    generator = torch.Generator().manual_seed(0)
    activation = torch.randn(4, 640, 7, 5, generator=generator)
    mixture = torch.randn(4, 640, generator=generator)
    of_maps = torch.randn(4, 7, 5, generator=generator)
    together = _both(activation, mixture, of_maps)
    leaf = mixture.double().requires_grad_()
    maps = (leaf.softmax(dim=1)[:, :, None, None] * activation.double()).sum(dim=1)
    (gradient,) = torch.autograd.grad(maps, leaf, of_maps.double())
    for several in (together, _both(activation, mixture, of_maps, by_itself=False)):
        for found, expected in zip(several, (maps, gradient), strict=True):
            torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
    for row in range(4):
        alone = _both(activation[row : row + 1], mixture[row : row + 1], of_maps[row : row + 1])
        for one, other in zip(together, alone, strict=True):
            assert torch.equal(one[row : row + 1], other)


def _both(activation: Tensor, mixture: Tensor, of_maps: Tensor, *, by_itself: bool = True) -> tuple[Tensor, Tensor]:
    rows = torch.arange(len(mixture))
    mixtures, weights = Mixtures(activation, rows, by_itself=by_itself), mixture.softmax(dim=1)
    return mixtures(weights, rows), mixtures.gradient(weights, of_maps, rows)
