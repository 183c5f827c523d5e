"""Kernels in channels_last, where the network takes it."""

import pytest
import torch
from torch import Tensor

from handlers.arrangement import arranged, in_channels_last
from tests.explainers.networks import ResidualCnn, network, pictures, prepare


class Careless(ResidualCnn):
    """Can't take another order of its maps, or misreads it."""

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x)
        if self.fails:
            maps = maps.view(len(maps), -1).view(maps.shape)
        else:
            maps = maps.as_strided(maps.shape, torch.empty(maps.shape).stride())
        return self.head(self.pool(maps).flatten(1))


def test_on_a_cpu_everything_stays() -> None:
    """There `Network.for_many_passes` does it, for the time of an explanation."""
    model = prepare(ResidualCnn())
    net = network(model)
    assert arranged(model, net) is net


def test_kernels_and_maps_lie_otherwise_and_say_the_same() -> None:
    """So do the recorded maps, and the target layer stays the one that was chosen."""
    model = prepare(ResidualCnn())
    net = network(model, target_layer="stage.0")
    other = in_channels_last(model, net)
    assert model.stage[0].conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert other.target_layer == net.target_layer
    torch.testing.assert_close(other.predict(pictures()), net.predict(pictures()), rtol=1e-5, atol=1e-5)
    maps = other.record(pictures(), "stage.0").activation
    assert maps.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("fails", [True, False])
def test_a_network_that_counts_on_its_memory_stays(fails: bool) -> None:
    """Its kernels are put back."""
    model = prepare(Careless(fails=fails))
    net = network(model)
    expected = net.predict(pictures())
    other = in_channels_last(model, net)
    assert model.stem.weight.is_contiguous()
    torch.testing.assert_close(other.predict(pictures()), expected)
