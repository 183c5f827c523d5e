"""Does a map depend on what the network has learnt? It is drawn again while the weights become random, top down."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explainers import Network, NotApplicableError, normalise, parameter
from explainers.opaque import has_opaque_part
from explainers.shadow import make_shadow
from quality.evidence import Evidence, Need
from quality.metric import Direction, Metric, Unit
from quality.ranks import rank_correlation
from quality.registry import register


@register
@dataclass(frozen=True)
class ModelRandomisation(Metric):
    """How much of a map's order survives when the network forgets what it has learnt, layer by layer from the top.

    Random weights are normal with the mean and standard deviation of the tensor that they replace; buffers, such as the
    statistics of batch normalisation, stay. A stage at which the map is degenerate has no correlation and isn't
    counted. The work is done on a copy: the model keeps its weights. Costs, for each stage, preparing a network and
    one explanation.
    """

    name: ClassVar[str] = "model_randomisation"
    title: ClassVar[str] = "Model-parameter randomisation (top down, cascading)"
    formula: ClassVar[str] = (
        "mean over stages s of the Spearman correlation of n(S) with n(S_s) on the map's grid; S_s: the map when the "
        "layers of stages 1 to s, counted from the output, have random weights"
    )
    reference: ClassVar[str] = "Adebayo et al. 2018"
    direction: ClassVar[Direction] = "lower"
    unit: ClassVar[Unit] = Unit.NUMBER
    range: ClassVar[tuple[float, float]] = (-1, 1)
    needs: ClassVar[frozenset[Need]] = frozenset({Need.NETWORK, Need.EXPLAIN, Need.MODEL})

    stages: int | None = parameter(
        None, "In how many groups the layers become random; without it, one at a time.", minimum=1, maximum=1000
    )
    seed: int = parameter(0, "Of the random weights.", minimum=0, maximum=2**31 - 1)

    def _values(self, evidence: Evidence) -> Tensor:
        if not len(evidence.pairs):
            return torch.empty(0)
        return self.correlations(evidence).nanmean(dim=1)

    def correlations(self, evidence: Evidence) -> Tensor:
        """The correlation of each row's map at each stage, shape (rows, stages), float64.

        Raises:
            NotApplicableError: the model has no weights, or the method isn't defined for it any more.
        """
        network, explain = evidence.given(Need.NETWORK), evidence.given(Need.EXPLAIN)
        original = evidence.native.maps
        found = []
        for model in randomised(evidence.given(Need.MODEL), network, self.stages, self.seed):
            changed = normalise(explain(network.like(model), evidence.images, evidence.classes).cpu())
            found.append(rank_correlation(original.flatten(1), changed.maps.flatten(1)))
        return torch.stack(found, dim=1)


def randomised(model: nn.Module, network: Network, stages: int | None, seed: int) -> Iterator[nn.Module]:
    """A copy of a model while its layers get random weights, from the output to the input, and keep them.

    The same copy is given at each stage, with new tensors: what was made of it before keeps the old ones.

    Args:
        model: left as it is.
        network: the same model ready to explain; says what input it takes.
        stages: number of groups of layers; one for each layer when not given.
        seed: of the weights; they don't depend on the number of stages.

    Raises:
        NotApplicableError: the model has no weights, or some that torch doesn't have.
    """
    if has_opaque_part(model):
        raise NotApplicableError("a part of the network is not torch's, and its weights can't become random")
    copy = make_shadow(model, network.device)
    layers = layers_from_the_top(copy, network)
    if not layers:
        raise NotApplicableError("the network has no weights to randomise")
    generator = torch.Generator().manual_seed(seed)
    new: dict[Tensor, nn.Parameter] = {}
    count = min(stages or len(layers), len(layers))
    for stage in range(count):
        for layer in layers[len(layers) * stage // count : len(layers) * (stage + 1) // count]:
            _randomise(layer, new, generator)
        yield copy


def layers_from_the_top(model: nn.Module, network: Network) -> list[nn.Module]:
    """The modules that have weights of their own, the last to start first; each once.

    A module that is never called itself, because its parent reads its weights, counts as starting after its parent.
    """
    started: dict[nn.Module, int] = {}

    def note(module: nn.Module, _arguments: object) -> None:
        started.setdefault(module, len(started))

    hooks = [module.register_forward_pre_hook(note) for module in model.modules()]
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    channels = len(network.mean_colour)
    with torch.inference_mode(False), torch.no_grad():
        model(torch.zeros(1, channels, *network.input_size, dtype=dtype, device=network.device))
    for hook in hooks:
        hook.remove()
    place: dict[nn.Module, tuple[float, int]] = {}
    for index, (path, module) in enumerate(model.named_modules()):
        parent = place.get(model.get_submodule(path.rpartition(".")[0]), (-math.inf, 0))[0] if path else -math.inf
        place[module] = started.get(module, parent), index
    own = [module for module in place if any(weight.is_floating_point() for weight in module.parameters(recurse=False))]
    return sorted(own, key=place.__getitem__, reverse=True)


def _randomise(layer: nn.Module, new: dict[Tensor, nn.Parameter], generator: torch.Generator) -> None:
    """Replace the weights of a layer; one that two layers share gets the same tensor in both."""
    for name, old in layer._parameters.items():
        if old is None or not old.is_floating_point():
            continue
        if old not in new:
            values = torch.randn(old.shape, generator=generator) * old.float().std(correction=0).cpu()
            new[old] = nn.Parameter((values + old.float().mean().cpu()).to(old), requires_grad=False)
        layer._parameters[name] = new[old]
