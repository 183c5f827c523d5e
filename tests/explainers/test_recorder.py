"""Recordings: what they hold, for how long, and for whom."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch
from torch import Tensor

from tests.explainers import references
from tests.explainers.cases import model_of, network_of
from tests.explainers.networks import MEAN, STD, ResidualCnn, network, pictures, prepare


def test_gradient_can_be_asked_for_again() -> None:
    """Several seeds, and one seed twice, share one forward pass."""
    recording = network_of("vgg").record(pictures(2), "0.5")
    first = torch.eye(5)[[0, 1]]
    second = torch.eye(5)[[3, 3]]
    a, b = recording.gradient(first), recording.gradient(second)
    assert torch.equal(recording.gradient(first), a)
    torch.testing.assert_close(recording.gradient(first - second), a - b, rtol=1e-4, atol=1e-7)


def test_values_are_those_of_the_definition() -> None:
    """Activation and gradient equal those of an ordinary backward pass in float64."""
    recording = network_of("residual").record(pictures(1), "stage.0.norm")
    inputs = references.normalised(pictures(1)[0], MEAN, STD)
    activation, gradient = references.activation_and_gradient(model_of("residual"), inputs, "stage.0.norm", 2)
    torch.testing.assert_close(recording.activation[0].double(), torch.from_numpy(activation), rtol=1e-4, atol=1e-5)
    seed = torch.eye(5)[[2]]
    torch.testing.assert_close(recording.gradient(seed)[0].double(), torch.from_numpy(gradient), rtol=1e-4, atol=1e-5)


def test_several_layers_in_one_pass() -> None:
    """Recording an early layer does not cut the later one off, nor the other way round."""
    net = network_of("residual")
    seed = torch.eye(5)[[0, 4]]
    paths = ("stem", "stage.0.norm", "stage.1")
    together = net.record(pictures(2), *paths)
    assert tuple(together.activations()) == paths
    for path in paths:
        alone = net.record(pictures(2), path)
        assert torch.equal(together.activations()[path], alone.activation)
        torch.testing.assert_close(together.gradients(seed)[path], alone.gradient(seed), rtol=1e-5, atol=1e-8)


def test_nothing_requires_a_gradient_afterwards() -> None:
    """What a recording hands out is detached, and no weight of the shadow collects gradients."""
    recording = network_of("vit").record(pictures(1), "blocks.1.norm1")
    gradient = recording.gradient(torch.eye(5)[[0]])
    assert not any(tensor.requires_grad for tensor in (recording.logits, recording.activation, gradient))


def test_memory_goes_with_the_recording() -> None:
    """The network keeps nothing of a request."""
    net = network_of("residual")
    recording = net.record(pictures(1), "stage.1")
    activation = weakref.ref(recording.activations()["stage.1"])
    tape = weakref.ref(recording)
    del recording
    gc.collect()
    assert tape() is None
    assert activation() is None


def test_tape_starts_at_the_layer() -> None:
    """What comes before the layer leaves no graph behind."""
    recording = network_of("residual").record(pictures(1), "stage.1")
    names = set()
    pending = [recording.graph_logits.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None:
            names.add(node.name())
            pending += [following for following, _ in node.next_functions]
    assert not any("Convolution" in name or "BatchNorm" in name for name in names)


def test_recordings_of_other_threads_stay_apart() -> None:
    """Two recordings that run through one layer at the same moment each keep their own activation."""
    meet = Barrier(2, timeout=30)

    class Meeting(ResidualCnn):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stage(torch.relu(self.stem(x)))
            if len(x) == 3:  # not while the network is made, nor in the serial passes
                meet.wait()
            return self.head(self.pool(x).flatten(1))

    net = network(prepare(Meeting()))
    images = [pictures(3, seed=seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        recordings = list(pool.map(lambda batch: net.record(batch, "stage.1"), images))
    for batch, recording in zip(images, recordings, strict=True):
        alone = net.record(batch[:1], "stage.1")
        torch.testing.assert_close(recording.activation[:1], alone.activation, rtol=1e-5, atol=1e-5)


def test_prediction_is_not_recorded() -> None:
    """A hook that was put on for recordings does nothing to predictions."""
    net = network(prepare(ResidualCnn()))
    before = net.predict(pictures())
    net.record(pictures(), "stem")
    assert torch.equal(net.predict(pictures()), before)
