"""Compares Grad-CAM with another library's, on the same weights and images, after the same normalisation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from explainers import METHODS, Classes, Network, normalise, upsample
from tests.oracles.peers import PEERS, ToGrid

TOLERANCE = 1e-4


def assert_agrees(
    peer: str,
    model: nn.Module,
    network: Network,
    images: Tensor,
    layer: str,
    classes: Sequence[int],
    to_grid: ToGrid | None = None,
) -> None:
    """Fails unless each map of the peer is ours to `TOLERANCE`, at the size at which the peer gives it."""
    mean, std = network._normalisation.mean, network._normalisation.std
    theirs = PEERS[peer](model, (images - mean) / std, layer, classes, to_grid)
    method = METHODS["grad_cam"](layer=layer)  # type: ignore[call-arg]
    results = method.explain(network, images, [Classes((index,)) for index in classes])
    maps = torch.stack([result.explanations[0].map for result in results])
    ours = maps if maps.shape == theirs.shape else upsample(maps, tuple(theirs.shape[1:]))
    assert (maps.flatten(1).amax(dim=1) > 0).any(), "every map is empty: the comparison would say nothing"
    torch.testing.assert_close(normalise(ours).maps, normalise(theirs).maps, rtol=0, atol=TOLERANCE)
