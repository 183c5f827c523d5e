"""What can be done with a network: tried once on noise, when it is first asked for."""

import torch
from torch import Tensor

from explainers.errors import NotApplicableError
from explainers.lrp_operations import obstacle
from explainers.network import Network
from explainers.opaque import REFUSAL
from explainers.rectifiers import VisibleRectifiers, rectifiers


def head_broadcasts(network: Network, layer: str) -> bool:
    """Whether what follows a layer takes another batch than what comes before it did.

    Most networks do, also with a residual connection around the layer. A concatenation of maps from both sides of it,
    or a batch size that the network remembers from its input, does not.
    """
    return network.tried(("head broadcasts", layer), lambda: _try_broadcast(network, layer))


def is_differentiable(network: Network) -> bool:
    """Whether the logits have a gradient with respect to the pixels."""
    return network.tried("is differentiable", lambda: _logits_of_noise(network).requires_grad)


def is_differentiable_from(network: Network, layer: str) -> bool:
    """Whether the logits have a gradient with respect to the output of a layer.

    Tried where another library computes a part of the network. Others are taken to have one: where they don't,
    `Network.record` says so.

    Raises:
        UnknownLayerError: no layer with a spatial map there.
    """
    network.layer(layer)
    if not network.has_opaque_part:
        return True
    return network.tried(("is differentiable from", layer), lambda: _try_gradient(network, layer))


def has_rectifiers(network: Network) -> bool:
    """Whether a ReLU, or ReLU6, leads from the pixels to the logits.

    Raises:
        NotApplicableError: a part of the network runs compiled or outside of torch, where no ReLU can be seen.
    """
    if network.has_opaque_part:
        raise NotApplicableError(REFUSAL)
    return network.tried("has rectifiers", lambda: _see_rectifiers(network))


def relevance_obstacle(network: Network) -> str | None:
    """Why relevance can't be propagated from the logits to the pixels; None when it can."""
    if network.has_opaque_part:
        return REFUSAL
    return network.tried("relevance obstacle", lambda: obstacle(network.tape(network.noise())))


def _try_broadcast(network: Network, layer: str) -> bool:
    image = network.noise()
    factors = torch.rand(3, network.layer(layer).channels, 1, 1, generator=torch.Generator().manual_seed(0))

    def edit(grid: Tensor) -> Tensor:
        return grid * factors.to(grid)

    expected = network.changed_logits(image.expand(3, -1, -1, -1), layer, edit)
    try:
        logits = network.changed_logits(image, layer, edit)
    except Exception:  # whatever the network raises at shapes that it doesn't expect
        return False
    same_shape = logits.shape == expected.shape
    return same_shape and torch.allclose(logits.float(), expected.float(), rtol=1e-3, atol=1e-4)


def _try_gradient(network: Network, layer: str) -> bool:
    try:
        network.record(network.noise(), layer)
    except NotApplicableError:
        return False
    return True


def _see_rectifiers(network: Network) -> bool:
    with VisibleRectifiers():
        return bool(rectifiers(_logits_of_noise(network)))


def _logits_of_noise(network: Network) -> Tensor:
    """Logits of one image of noise, with the graph that starts at its pixels."""
    with torch.inference_mode(False), torch.enable_grad():
        return network.logits(network.noise().requires_grad_())
